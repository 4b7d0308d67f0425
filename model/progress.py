"""How far long work has come: a callback, and a bar on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]
"""Takes what is done and what there is in all."""


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
