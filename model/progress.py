"""How far long work has come: a callback, and a bar on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Takes what is done and what there is in all."""


def finished(run: Generator[Any, None, Result], progress: Progress | None) -> Result:
    """Run a generator of steps (with `done` and `total`) to its end, telling `progress` each; give what it returns."""
    while True:
        try:
            step = next(run)
        except StopIteration as end:
            result: Result = end.value
            return result
        if progress is not None:
            progress(step.done, step.total)


def bars_shown() -> bool:
    """Whether standard error is a terminal that can move its cursor, whatever the environment says of colors."""
    try:
        return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    except (AttributeError, ValueError):  # none, or closed
        return False


@contextmanager
def written(what: str) -> Iterator[Progress]:
    """A bar over bytes, where standard error is a terminal; it vanishes when done. What this yields moves it."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn(),
        progress.TimeElapsedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=Console(stderr=True), disable=not bars_shown(), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
