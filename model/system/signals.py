"""Signals that end a program, for the time in which something must be cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (
    "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGBREAK",
)  # fmt: skip
"""Signals that end a program that does not handle them; SIGINT raises KeyboardInterrupt by itself."""


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Turn the signals that end a program into SystemExit for the time of the block, so that clean-up runs.

    Those that are ignored (nohup) or handled already stay so; outside the main thread nothing is done.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    taken: list[int] = []
    if threading.current_thread() is threading.main_thread():
        for name in ENDING:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, stop)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
