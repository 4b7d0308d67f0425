"""Results as `bench/results/<machine>-<commit>-<what>.json`: with every sample, so that tables can be made again."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.errors import UserError

from . import files
from .machine import environment

SCHEMA = 2
TIMES = ("seconds", "step_seconds", "stream", "data")
"""Names of samples in seconds; `data` is pytest-benchmark's."""
Result = dict[str, Any]


def folder() -> Path:
    """`bench/results` of the checkout, or of the working directory where there is no checkout."""
    inside = environment.ROOT / "pyproject.toml"
    return (environment.ROOT if inside.exists() else Path.cwd()) / "bench" / "results"


def new(kind: str, settings: dict[str, Any]) -> Result:
    """An empty result of this machine and commit."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    record = environment.collect()
    return {"schema": SCHEMA, "kind": kind, "created": now, "environment": record, "settings": settings}


def default_path(result: Result) -> Path:
    """Where `--save` without a name puts it: a file for each machine, commit, kind and model."""
    e, settings = result["environment"], result["settings"]
    bits = f"{settings['bits']}bit" if settings.get("bits") else None
    what = "-".join(str(part) for part in (result["kind"], settings.get("name"), bits) if part).replace(" ", "-")
    return folder() / f"{e['slug']}-{e['commit']}-{what}.json"


def check_writable(path: str | Path | None = None) -> None:
    """UserError if no file can be made where `save` would put one."""
    files.check(Path(path) if path else folder() / "result.json")


def save(result: Result, path: str | Path | None = None) -> Path:
    """Write it whole or not at all; UserError if that fails."""
    target = Path(path) if path else default_path(result)
    files.write({target: dumps(result, indent=1) + "\n"})
    return target


def dumps(node: Any, indent: int | None = None) -> str:
    """JSON that every reader takes: what it has no number for stands there by its name, "nan" or "inf"."""

    def plain(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: plain(value) for name, value in node.items()}
        if isinstance(node, (list, tuple)):
            return [plain(value) for value in node]
        return str(node) if isinstance(node, float) and not math.isfinite(node) else node

    return json.dumps(plain(node), indent=indent)


def load(path: str | Path) -> Result:
    """Read one; UserError for what is not a result of `bench` (or of pytest-benchmark, which comes back as it is)."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror or e}") from e
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path} is not JSON: {e}; give a file that `bench --save` wrote") from e
    if not isinstance(result, dict) or ("kind" not in result and "benchmarks" not in result):
        raise UserError(f"{path} is no result of bench or pytest-benchmark; give a file that `bench --save` wrote")
    if "kind" in result and result.get("schema") != SCHEMA:
        raise UserError(f"{path} has schema {result.get('schema')!r}, this bench reads {SCHEMA}; measure again")
    part = {"edit": "columns", "peers": "columns", "kernels": "cases"}.get(str(result.get("kind")))
    if part and not (isinstance(result.get(part), list) and result[part]):
        raise UserError(f"{path} is incomplete: it has no {part}; measure again")
    if not _plausible(result):
        raise UserError(f"{path} is damaged: it has times that are no positive numbers; measure again")
    return result


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _plausible(node: Any, timed: bool = False) -> bool:
    """Whether every time in it is a positive number: comparing with NaN would find no regression, whatever it hides."""
    if isinstance(node, dict):
        return all(_plausible(value, timed or name in TIMES) for name, value in node.items())
    if isinstance(node, list):
        return all(_plausible(value, timed) for value in node)
    return not timed or (isinstance(node, (int, float)) and 0 < node < math.inf)


@contextmanager
def intact(*files: str | Path) -> Iterator[None]:
    """Around computing from loaded results: UserError for one that was cut short, edited or made by other code."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ZeroDivisionError) as e:
        names = " or ".join(map(str, files))
        raise UserError(f"{names} is incomplete or damaged ({type(e).__name__}: {e}); measure again") from e
