"""Tables of saved results inside a page of text: `bench report --update docs/benchmarks.md`.

A block stands between two comments; the first names the saved result, relative to the page's folder:

    <!-- bench:begin bench/results/x.json -->
    <!-- bench:end -->

What is between them is `block(...)` of that result and nothing else, so that a test can tell when the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from model.errors import UserError

from .. import results

MARKED = re.compile(r"(<!-- bench:begin (\S+) -->\n)(.*?)(<!-- bench:end -->)", re.DOTALL)


def picture(file: Path) -> Path:
    """Where the picture of a saved edit is kept: beside it."""
    return file.with_name(f"{file.stem}-rtf.png")


def block(page: Path, name: str) -> str:
    """The Markdown of the result `name`: its first table, and its picture where it has one. UserError: no result."""
    from .command import tables

    file = page.parent / name
    result = results.load(file)
    with results.intact(file):
        text = tables(result)[0].markdown()
    if result["kind"] == "edit":
        text += f"\n![seconds for a second of audio, by stage]({picture(Path(name)).as_posix()})\n"
    return text


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Name of the saved result and present content of each block."""
    for match in MARKED.finditer(text):
        yield match[2], match[3]


def filled(page: Path) -> tuple[str, list[Path]]:
    """The page with every block made anew, and the results that it names. UserError if there is no block."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise UserError(f"cannot read {page}: {getattr(e, 'strerror', None) or e}") from e
    named = [page.parent / name for name, _ in blocks(text)]
    if not named:
        raise UserError(
            f"{page} has no block to fill; put <!-- bench:begin FILE.json --> and <!-- bench:end --> around its place"
        )
    return MARKED.sub(lambda m: m[1] + block(page, m[2]) + m[4], text), named
