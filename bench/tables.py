"""Tables as data, printed by rich or written as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as RichTable

from .stats import MIN_ROUNDS, Interval, Summary


@dataclass(frozen=True)
class Table:
    """A title, headers, rows of text and the notes below."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Print it."""
        table = RichTable(title=self.title, title_justify="left")
        for n, header in enumerate(self.headers):
            table.add_column(header, justify="right" if n else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(note, markup=False, soft_wrap=True)

    def markdown(self) -> str:
        """As a Markdown table with its notes."""
        lines = [f"### {self.title}", "", "| " + " | ".join(self.headers) + " |"]
        lines.append("|" + "|".join(["---"] + ["---:"] * (len(self.headers) - 1)) + "|")
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        lines += ["", *[f"{note}  " for note in self.notes]]
        return "\n".join(lines) + "\n"


def seconds(value: float) -> str:
    """A time with three digits and its unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1 or unit == "µs":
            return f"{value * factor:.3g} {unit}" if value * factor < 1000 else f"{value * factor:.0f} {unit}"
    raise AssertionError


def measured(summary: Summary, *, projected: bool = False) -> str:
    """Median and relative spread; `~` before what was projected from a part."""
    spread = f" ±{100 * summary.spread:.0f} %" if summary.n > 1 else ""
    return f"{'~' if projected else ''}{seconds(summary.median)}{spread}"


def ratio(interval: Interval, n: int, *, projected: bool = False) -> str:
    """How many times faster, with the interval where there were rounds enough for one."""
    mark = "~" if projected else ""
    if n < MIN_ROUNDS:
        return f"{mark}{interval.estimate:.3g}x"
    return f"{mark}{interval.estimate:.3g}x ({interval.low:.3g}-{interval.high:.3g})"


def size(value: float) -> str:
    """Bytes in decimal units."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"
