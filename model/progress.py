"""Progress callbacks, and the one bar on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import rich.progress
    from rich.console import Console
    from rich.progress import ProgressColumn

Item = TypeVar("Item")
Tell = Callable[[str], None]
"""A function that takes one line for the user."""
Progress = Callable[[int, int], None]
"""A function that takes how much is done, and how much there is in all."""


def bars_shown() -> bool:
    """Tell whether standard error is a terminal that can move its cursor, whatever the environment says of colors."""
    try:
        return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    except (AttributeError, ValueError):  # none, or closed
        return False


def new_bar(*columns: ProgressColumn, console: Console | None = None, quiet: bool = False) -> rich.progress.Progress:
    """Return a bar on standard error: a description, the bar, `columns`.

    It vanishes when done, and shows nothing where that is no terminal.
    """
    import rich.progress
    from rich.console import Console

    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"), rich.progress.BarColumn(), *columns,
        console=console or Console(stderr=True), transient=True, disable=quiet or not bars_shown(),
    )  # fmt: skip


def track(items: Iterable[Item], name: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, with a bar over them; where there is no terminal, one line at the beginning."""
    if not bars_shown():
        print(name, file=sys.stderr)
        yield from items
        return
    from rich.markup import escape
    from rich.progress import MofNCompleteColumn, TimeElapsedColumn

    with new_bar(MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        yield from bar.track(items, total=total, description=escape(name))


@contextmanager
def byte_progress(what: str) -> Iterator[Progress]:
    """Show a bar over bytes. What this yields moves it."""
    from rich.progress import DownloadColumn, TimeElapsedColumn, TimeRemainingColumn

    with new_bar(DownloadColumn(), TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
