"""The process around a command: standard streams that may be closed or full, and signals that end it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING = (
    "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGBREAK",
)  # fmt: skip
"""Signals that end a program that does not handle them; SIGINT raises KeyboardInterrupt by itself."""


def open_streams() -> None:
    """Open closed standard streams on the null device: otherwise the next file that is opened becomes one of them, and
    what a library prints goes into it. What a stream's encoding lacks is written as escapes."""
    with suppress(OSError):
        descriptor = os.open(os.devnull, os.O_RDWR)
        while descriptor <= 2:
            descriptor = os.dup(descriptor)
        os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may be no text


def say(kind: str, message: str) -> None:
    """One line on standard error, if that takes one."""
    with suppress(OSError, ValueError):
        print(f"{kind}: {' '.join(message.split())}", file=sys.stderr, flush=True)


def silence() -> None:
    """Let what standard output holds go nowhere: it could not be written, and must not fail again when Python ends."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


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
