"""`instruct-musicgen`: edit a clip, convert a checkpoint, describe or fetch a bundle, check a machine.

Whatever a user can do something about is one line, `error: ...`, on stderr. Exit codes: 0 done, 1 failed, 2 wrong
usage, 130 interrupted.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from ..errors import UsageError, UserError
from ..signals import ending_cleanly
from .arguments import parse
from .process import open_streams, say, silence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return the exit code."""
    open_streams()
    try:
        with warnings.catch_warnings(), ending_cleanly():
            warnings.showwarning = show_warning
            arguments = parse(argv)
            arguments.run(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk is noticed here, not when Python ends
    except UserError as e:
        say("error", str(e))
        return 2 if isinstance(e, UsageError) else 1
    except KeyboardInterrupt as e:
        say("error", str(e) or "interrupted; nothing was written")
        return 130
    except BrokenPipeError:  # `instruct-musicgen info | head`
        silence()
        return 1
    except (MemoryError, OSError) as e:
        say("error", f"{str(e) or 'out of memory'}; free some and try again" if isinstance(e, MemoryError) else str(e))
        silence()
        return 1
    return 0


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line, without the place in the source that raised it."""
    say("warning", str(message))
