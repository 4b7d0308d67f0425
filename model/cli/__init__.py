"""`instruct-musicgen`: edit a clip, convert a checkpoint, describe or fetch a bundle, check a machine.

Whatever a user can do something about is one line, `error: ...`, on stderr. Exit codes: 0 done, 1 failed, 2 wrong
usage, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import process
from .arguments import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return the exit code."""

    def command() -> int:
        arguments = parse(argv)
        arguments.run(arguments)
        return 0

    return process.run(command, interrupted="nothing was written", out_of_memory="free some and try again")
