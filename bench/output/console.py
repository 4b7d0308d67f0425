"""Progress on standard error, tables on standard output; nothing fancy where that is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from model.progress import bars_shown, new_bar

ERRORS = Console(stderr=True)


def progress() -> Progress:
    """Return a progress bar that counts rounds."""
    return new_bar(MofNCompleteColumn(), TimeElapsedColumn(), console=ERRORS)


def say(message: str) -> None:
    """Print a line on standard error, unchanged."""
    ERRORS.print(message, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def status(message: str) -> Iterator[None]:
    """Show a spinner, or one line where there is no terminal."""
    if bars_shown():
        with ERRORS.status(escape(message)):
            yield
    else:
        say(message)
        yield


def output() -> Console:
    """Return standard output, as wide as the table needs where it is not a terminal."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=140)
