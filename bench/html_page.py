"""One page of tables and plots: Markdown for the terminal and files, and one HTML file that holds everything."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import files


@dataclass(frozen=True)
class Table:
    """Cells are text; the first column is aligned left, the others right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """A pipe table with aligned columns, readable as it is."""
        lines = [[_plain(cell) for cell in line] for line in (self.columns, *self.rows)]
        widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(self.columns))]

        def row(cells: Sequence[str]) -> str:
            first, *rest = [
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths))
            ]
            return "| " + " | ".join([first, *rest]) + " |"

        rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
        return "\n".join([row(lines[0]), rule, *map(row, lines[1:])])

    def html(self) -> str:
        """A table element."""
        head = "".join(f"<th>{html.escape(c)}</th>" for c in self.columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in r) + "</tr>" for r in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True)
class Section:
    """A heading, what it shows and how to read it, then a table or a picture (PNG bytes and what it shows)."""

    title: str
    text: str = ""
    table: Table | None = None
    picture: tuple[str, bytes, str] | None = None


@dataclass
class Page:
    """Sections in order. `name` is that of the files."""

    name: str
    title: str
    sections: list[Section] = field(default_factory=list)

    def markdown(self, pictures: bool = True) -> str:
        """The page; pictures are referred to as files beside it."""
        out = [f"# {self.title}"]
        for each in self.sections:
            if each.picture and not pictures:
                continue
            out += [f"## {each.title}"] + ([each.text] if each.text else [])
            if each.table:
                out.append(each.table.markdown())
            if each.picture:
                out.append(f"![{each.picture[2]}]({each.picture[0]})")
        return "\n\n".join(out) + "\n"

    def html(self) -> str:
        """The page as one file, pictures inside."""
        out = [f"<h1>{html.escape(self.title)}</h1>"]
        for each in self.sections:
            out.append(f"<h2>{html.escape(each.title)}</h2>")
            out += [f"<p>{html.escape(part)}</p>" for part in each.text.split("\n\n") if part]
            if each.table:
                out.append(each.table.html())
            if each.picture:
                data = base64.b64encode(each.picture[1]).decode()
                out.append(f'<img alt="{html.escape(each.picture[2])}" src="data:image/png;base64,{data}">')
        return _PAGE.format(title=html.escape(self.title), body="\n".join(out))

    def save(self, folder: Path, data: str) -> list[Path]:
        """Write NAME.md, NAME.html, NAME.json and the pictures. UserError: one can't be written; then none is."""
        out: dict[Path, str | bytes] = {
            folder / f"{self.name}.md": self.markdown(), folder / f"{self.name}.html": self.html(),
            folder / f"{self.name}.json": data,
        }
        out |= {folder / s.picture[0]: s.picture[1] for s in self.sections if s.picture}
        return files.write(out)


_PAGE = """<!doctype html>
<meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }}
th, td {{ padding: .2rem .8rem; border-bottom: 1px solid #8884; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
img {{ max-width: 100%; background: white; }}
</style>
{body}
"""


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A value with `digits` decimals; "-" for None and NaN, "inf" as such; tiny ones by exponent; an exact 0 as "0"."""
    if value is None or math.isnan(value):
        return "-"
    if value == 0 or math.isinf(value):
        return f"{value:+g}" if signed and value else f"{abs(value) if value == 0 else value:g}"
    if abs(value) < 10**-digits:
        return f"{value:+.1e}" if signed else f"{value:.1e}"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """A ratio as a percentage."""
    return "-" if value is None or math.isnan(value) else number(100 * value, digits, signed=signed) + " %"
