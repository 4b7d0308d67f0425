"""Tables of saved results inside a page of text: `bench report --update docs/benchmarks.md`.

A block stands between two comments; the first names the saved result, relative to the page's folder:

    <!-- bench:begin bench/results/x.json -->
    <!-- bench:end -->

What is between them is `render_block(...)` of that result and nothing else, so that a test can tell when they differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from model.errors import UserError

from .. import result_files
from ..edit import tables as edit
from ..kernels import tables as kernels
from ..output.tables import Table
from ..peers import table as peers
from ..results import EditResult, KernelsResult, PeersResult, PytestResult, Result

MARKED = re.compile(r"(<!-- bench:begin ([^\r\n]+?) -->\r?\n)(.*?)(<!-- bench:end -->)", re.DOTALL)


def tables(result: Result | PytestResult) -> list[Table]:
    """Return a result's tables. Raises UserError if it is of a kind that has none."""
    if isinstance(result, EditResult):
        return [edit.table(result), edit.memory_table(result)]
    if isinstance(result, PeersResult):
        return peers.tables_of(result)
    if isinstance(result, KernelsResult):
        return kernels.tables_of(result)
    kind = result.kind if isinstance(result, Result) else "pytest-benchmark"
    raise UserError(f"a `{kind}` result has no tables; name a result of bench edit, kernels or peers")


def section(result: Result | PytestResult) -> str:
    """Return a result's tables in Markdown."""
    return "\n".join(table.markdown() for table in tables(result))


def picture(file: Path) -> Path:
    """Return the place of a saved edit's picture: beside its file."""
    return file.with_name(f"{file.stem}-rtf.png")


def render_block(page: Path, name: str) -> str:
    """Return the Markdown of the result `name`: its first table, and its picture where it has one.

    Raises UserError if there is no such result, or if it is of a kind that has no tables.
    """
    file = page.parent / name
    result = result_files.load(file)
    with result_files.reports_damaged_files(file):
        text = tables(result)[0].markdown()
    if isinstance(result, EditResult):
        text += f"\n![seconds for a second of audio, by stage]({quote(picture(Path(name)).as_posix())})\n"
    return text


def find_blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name of the saved result and the present content of each block."""
    for match in MARKED.finditer(text):
        yield match[2], match[3]


def fill(page: Path) -> tuple[str, list[Path]]:
    """Return the page with every block rendered again, and the results that it names.

    Raises UserError if it cannot be read, or has no block.
    """
    try:
        text = page.read_bytes().decode("utf-8")  # line ends and a byte order mark stay as they are
    except (OSError, ValueError) as e:
        raise UserError(f"cannot read {page}: {getattr(e, 'strerror', None) or e}; check the path") from e
    named = [page.parent / name for name, _ in find_blocks(text)]
    if not named:
        raise UserError(
            f"{page} has no block to fill; put <!-- bench:begin FILE.json --> and <!-- bench:end --> around its place"
        )

    def fresh(match: re.Match[str]) -> str:
        made = render_block(page, match[2])
        return match[1] + (made.replace("\n", "\r\n") if match[1].endswith("\r\n") else made) + match[4]

    return MARKED.sub(fresh, text), named
