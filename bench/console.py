"""Progress on standard error, tables on standard output; nothing fancy where that is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ERRORS = Console(stderr=True)


def progress() -> Progress:
    """A bar that vanishes when done, and shows nothing where standard error is no terminal."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=ERRORS,
        transient=True, disable=not ERRORS.is_terminal,
    )


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
