"""Tables as data, printed by rich or written as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as RichTable

from ..stats import MIN_ROUNDS, Interval, Summary


@dataclass(frozen=True)
class Table:
    """A title, headers, rows of text and the notes below."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Print the table with its notes."""
        table = RichTable(title=self.title, title_justify="left")
        for n, header in enumerate(self.headers):
            table.add_column(header, justify="right" if n else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(note, markup=False, soft_wrap=True)

    def markdown(self) -> str:
        """Return a Markdown table with its title and notes."""
        notes = "\n".join(f"{note}  " for note in self.notes)
        return f"### {self.title}\n\n{pipes(self.headers, self.rows)}\n\n{notes}\n"


def pipes(headers: Sequence[str], rows: Iterable[Sequence[str]], *, aligned: bool = False) -> str:
    """Return a Markdown table, the first column aligned left, the others right; with `aligned`, in plain text as well.

    By hand: tabulate writes only the aligned kind, whose every line changes with the longest cell.
    """
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in (headers, *rows)]
    widths = [max(3, *map(len, column)) if aligned else 3 for column in zip(*lines)]
    rule = ["-" * width + ("" if n == 0 else ":") for n, width in enumerate(widths)]
    if aligned:
        lines = [[c.rjust(w) if n else c.ljust(w) for n, (c, w) in enumerate(zip(line, widths))] for line in lines]
        rule = ["-" * (width + 2) if n == 0 else "-" * (width + 1) + ":" for n, width in enumerate(widths)]
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + "|".join(rule) + "|", *body])


def seconds(value: float) -> str:
    """Return a time with three digits and its unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1 or unit == "µs":
            return f"{value * factor:.3g} {unit}" if value * factor < 1000 else f"{value * factor:.0f} {unit}"
    raise AssertionError


def measured(summary: Summary, *, projected: bool = False) -> str:
    """Return median and relative spread, with `~` in front if it was projected from a part."""
    spread = f" ±{100 * summary.spread:.0f} %" if summary.n > 1 else ""
    return f"{'~' if projected else ''}{seconds(summary.median)}{spread}"


def ratio(interval: Interval, n: int, *, projected: bool = False) -> str:
    """Return how many times faster, with the interval where there were enough rounds for one."""
    mark = "~" if projected else ""
    if n < MIN_ROUNDS:
        return f"{mark}{interval.estimate:.3g}x"
    return f"{mark}{interval.estimate:.3g}x ({interval.low:.3g}-{interval.high:.3g})"


def size(value: float) -> str:
    """Return bytes in decimal units."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Return a value with `digits` decimals; tiny values have an exponent, None and NaN are "-", infinity is "inf".

    An exact 0 is "0".
    """
    if value is None or math.isnan(value):
        return "-"
    if value == 0 or math.isinf(value):
        return f"{value:+g}" if signed and value else f"{abs(value) if value == 0 else value:g}"
    kind = f".{digits}f" if abs(value) >= 10**-digits else ".1e"
    return f"{value:+{kind}}" if signed else f"{value:{kind}}"


def percent(value: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """Return a ratio as a percentage."""
    return "-" if value is None or math.isnan(value) else number(100 * value, digits, signed=signed) + " %"
