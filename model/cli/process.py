"""The process around a command of either program: streams that may be closed or full, signals, exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from ..errors import UsageError, UserError
from ..system.signals import ending_cleanly


def run(command: Callable[[], int], *, interrupted: str, out_of_memory: str) -> int:
    """Run a command and return its exit code; whatever a user can do something about is one line on standard error.

    0: done, or the command's own code; 1: failed; 2: wrong usage; 130: interrupted. `interrupted` says what became of
    the work, `out_of_memory` what to do.
    """
    open_streams()
    try:
        with warnings.catch_warnings(), ending_cleanly():
            warnings.showwarning = show_warning
            code = command()
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk is noticed here, not when Python ends
            return code
    except UserError as e:
        say("error", str(e))
        return 2 if isinstance(e, UsageError) else 1
    except KeyboardInterrupt as e:
        say("error", str(e) or f"interrupted; {interrupted}")
        return 130
    except BrokenPipeError:  # `... | head`
        silence()
    except OSError as e:
        say("error", f"{e.filename}: {e.strerror}" if e.filename else str(e.strerror or e))
        silence()
    except MemoryError as e:
        say("error", f"{str(e) or 'out of memory'}; {out_of_memory}")
        silence()
    return 1


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:  # fmt: skip
    """Show a warning as one line, without the place in the source that raised it."""
    say("warning", str(message))


def open_streams() -> None:
    """Open closed standard streams on the null device.

    Otherwise the next file that is opened becomes one of them, and what a library prints goes into it. What a
    stream's encoding lacks is written as escapes.
    """
    with suppress(OSError):
        descriptor = os.open(os.devnull, os.O_RDWR)
        while descriptor <= 2:
            descriptor = os.dup(descriptor)
        os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may be no text


def say(kind: str, message: str) -> None:
    """Print one line on standard error, if that takes one."""
    with suppress(OSError, ValueError):
        print(f"{kind}: {' '.join(message.split())}", file=sys.stderr, flush=True)


def silence() -> None:
    """Let what standard output holds go nowhere: it could not be written, and must not fail again when Python ends."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
