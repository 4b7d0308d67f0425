"""results.csv: a line for each file, of this run and of those before it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import UserError
from ..whole_file import write_whole
from .shard import Shard

COLUMNS = (
    "output", "status", "input", "sentence", "seed", "seconds", "took", "gap", "first gap", "probability", "guided",
    "fit", "model", "weights", "backend", "version", "error",
)  # fmt: skip
"""`status`: done, skipped (it was whole already) or failed; `seconds` of sound, `took` seconds of a clock."""

Line = Mapping[str, str]


def path_of(folder: Path, shard: Shard) -> Path:
    """Return the table's place: every shard has its own."""
    return folder / ("results.csv" if shard.size == 1 else f"results-{shard.number}-of-{shard.size}.csv")


def read(path: Path) -> dict[str, Line]:
    """Read the lines of an earlier run by output; none where there is no table. Raises UserError for another file."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UserError(f"{path}: is not a table of results of this version; move it away")
            return {line["output"]: {key: line[key] or "" for key in COLUMNS} for line in reader}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read ({e}); move it away") from e


def write(path: Path, lines: Iterable[Line]) -> None:
    """Write the whole table, or leave the one that is there. Raises UserError where it cannot be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(lines, key=lambda line: line["output"]))
    write_whole({path: text.getvalue().encode("utf-8", "backslashreplace")})
