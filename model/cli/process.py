"""The process around a command: standard streams that may be closed or full."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


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
