"""Pages of tables and pictures from a Markdown template: for the terminal, as files, and as one HTML file."""

from __future__ import annotations

import argparse
import base64
import html
import itertools
import re
import string
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model import whole_file
from model.errors import UserError
from model.system import machine

from .. import result_files
from .figures import INSTALL
from .tables import number, percent, pipes

if TYPE_CHECKING:
    from model.evaluation.variant import Variant

PLAIN_TEXT = ["autolink", "backticks", "emphasis", "entity", "escape", "html_inline", "link"]
"""Markdown that no page uses: a clip or a model may be called `a*b*`."""


@dataclass
class Page:
    """A page in Markdown, its pictures as PNG by name, and the name of its files."""

    name: str
    text: str
    pictures: dict[str, bytes] = field(default_factory=dict)

    def without_pictures(self) -> str:
        """Return the page for a terminal, without the sections that show a picture."""
        return re.sub(r"^## (?:(?!^## ).)*?^!\[(?:(?!^## ).)*", "", self.text, flags=re.DOTALL | re.MULTILINE)

    def html(self) -> str:
        """Return the page as one HTML file with its pictures inside."""
        from markdown_it import MarkdownIt

        body = MarkdownIt("commonmark", {"html": False}).enable("table").disable(PLAIN_TEXT).render(self.text)
        for name, png in self.pictures.items():
            data = base64.b64encode(png).decode()
            body = body.replace(f'src="{name}"', f'src="data:image/png;base64,{data}"')
        title = self.text.partition("\n")[0].removeprefix("# ")
        template = string.Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
        return template.substitute(title=html.escape(title), body=body)


def make(name: str, variants: Sequence[Variant], draw: Callable[[], bytes], **values: Any) -> Page:
    """Fill in NAME/page.md with `values`, and with what every page says of its machine and the first variant's model.

    `draw` makes its picture; without matplotlib the page says so.
    """
    try:
        pictures = {f"{name}.png": draw()}
    except UserError:
        pictures = {}
    bundle = variants[0].bundle
    text = render(
        Path(__file__).parents[1] / name / "page.md",
        variants=variants, machine=f"{machine.processor()}, {machine.cores()} cores; MLX {version('mlx')}",
        lm=bundle.config.lm, random_weights=bundle.random_weights, plot=bool(pictures),
        no_matplotlib=f"None: matplotlib is not installed; {INSTALL}.",
        **values,
    )  # fmt: skip
    return Page(name, text, pictures)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table that a terminal can show unchanged."""
    return pipes(headers, rows, aligned=True)


ROW, CELL = "\0", "\1"


def _row(*cells: str) -> str:
    """Return a table's row, or its headers, for `render` to align with those around it."""
    return f"\n\n{ROW}{CELL.join(cells)}\n\n"


def render(template: Path, **values: Any) -> str:
    """Fill in a jinja2 template of Markdown: paragraphs become one line, tables stay, one blank line between all.

    Templates have the filters `number` and `percent`, and `row(...)`: rows that follow each other are one table.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent), undefined=jinja2.StrictUndefined, autoescape=False
    )
    environment.filters |= {"number": number, "percent": percent}
    text = environment.get_template(template.name).render(values | {"row": _row})
    blocks = [block.strip(" \n") for block in re.split(r"\n\s*\n", text)]
    out = []
    for is_row, group in itertools.groupby(filter(None, blocks), lambda block: block.startswith(ROW)):
        if is_row:
            headers, *rows = (block[1:].split(CELL) for block in group)
            out.append(table(headers, rows))
        else:
            out += [block if block.startswith("|") else " ".join(block.split()) for block in group]
    return "\n\n".join(out) + "\n"


def check_out(folder: Path | None) -> None:
    """Raise UserError if `--out` cannot be written: now, not after minutes of work."""
    if folder is not None:
        whole_file.check_writable(folder / "page.md")


def finish(args: argparse.Namespace, page: Page, data: dict[str, Any]) -> None:
    """Print the page, or its numbers; with `--out` also write NAME.md, NAME.html, NAME.json and the pictures.

    Files are written even if printing fails. Raises UserError if one cannot be written; then none is.
    """
    text = result_files.dumps(data, indent=1)
    try:
        print(text if args.json else page.without_pictures())
    finally:
        if args.out:
            out: dict[Path, str | bytes] = {
                args.out / f"{page.name}.md": page.text,
                args.out / f"{page.name}.html": page.html(),
                args.out / f"{page.name}.json": text,
            }
            for path in whole_file.write_whole(out | {args.out / name: png for name, png in page.pictures.items()}):
                print(f"wrote {path}", file=sys.stderr)
