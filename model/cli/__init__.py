"""`instruct-musicgen`: edit a clip, convert a checkpoint, describe a bundle, check this machine.

Whatever a user can do something about is one line, `error: ...`, on stderr. Exit codes: 0 done, 1 failed, 2 wrong
usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from ..errors import UsageError, UserError
from .arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may be no text
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            arguments = parse(argv)
            arguments.run(arguments)
    except UserError as e:
        _say("error", str(e))
        return 2 if isinstance(e, UsageError) else 1
    except KeyboardInterrupt:
        _say("error", "interrupted; nothing was written")
        return 130
    except BrokenPipeError:  # `instruct-musicgen info | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MemoryError, OSError) as e:
        _say("error", f"{str(e) or 'out of memory'}; free some and try again" if isinstance(e, MemoryError) else str(e))
        return 1
    return 0


def _say(kind: str, message: str) -> None:
    print(f"{kind}: {' '.join(message.split())}", file=sys.stderr)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line, without the place in the source that raised it."""
    _say("warning", str(message))
