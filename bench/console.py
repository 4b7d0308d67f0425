"""Progress on standard error, tables on standard output; nothing fancy where that is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Item = TypeVar("Item")
ERRORS = Console(stderr=True)


def progress() -> Progress:
    """A bar that vanishes when done, and shows nothing where standard error is no terminal."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=ERRORS,
        transient=True, disable=not ERRORS.is_terminal,
    )


def track(items: Iterable[Item], name: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar over them; where there is no terminal, one line at the beginning."""
    if ERRORS.is_terminal:
        with progress() as bar:
            yield from bar.track(items, total=total, description=name)
    else:
        ERRORS.print(name, highlight=False, markup=False, soft_wrap=True)
        yield from items


@contextmanager
def status(message: str) -> Iterator[None]:
    """A spinner, or one line where there is no terminal."""
    if ERRORS.is_terminal:
        with ERRORS.status(message):
            yield
    else:
        ERRORS.print(message, highlight=False, soft_wrap=True)
        yield


def output() -> Console:
    """Standard output; as wide as the table needs where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)
