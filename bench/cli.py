"""`bench`: speed, memory, traffic and quality on this machine. Without a subcommand: the end-to-end table.

Each subcommand is a folder of this package whose `command.py` has `add_parser(subparsers)` and `run(args) -> int`,
imported when it is asked for (or when the help lists them all).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from model.cli import show_warning
from model.errors import UsageError, UserError

SUBCOMMANDS = (
    "edit", "kernels", "roofline", "compare", "report", "env", "sizes", "peers", "quality", "fidelity",
)
DEFAULT = "edit"


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing the usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """One line, with where to read more."""
        raise UsageError(f"{message} (see '{self.prog} --help')")


def modules(names: Sequence[str] = SUBCOMMANDS) -> list[str]:
    """The subcommands that are there."""
    folders = [name for name in names if importlib.util.find_spec(f"{__package__}.{name}") is not None]
    return [name for name in folders if importlib.util.find_spec(f"{__package__}.{name}.command") is not None]


def parser(names: Sequence[str]) -> Parser:
    """A parser for the given subcommands."""
    top = Parser(
        prog="bench", description=__doc__.partition("\n")[0] if __doc__ else None,
        epilog="`bench` alone is `bench edit`; see `bench edit --help` for its options.",
    )
    subparsers = top.add_subparsers(dest="subcommand", metavar="subcommand", required=True, parser_class=Parser)
    for name in names:
        importlib.import_module(f"{__package__}.{name}.command").add_parser(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's). 0: done; 1: failed or a regression; 2: wrong usage."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # not every terminal's encoding has ± and µ
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _ended)
    arguments = list(sys.argv[1:] if argv is None else argv)
    wants_help = bool(arguments) and arguments[0] in ("-h", "--help")
    if not wants_help and (not arguments or arguments[0].startswith("-")):
        arguments = [DEFAULT, *arguments]
    try:
        if (option := _blank(arguments)) is not None:
            raise UsageError(f"{option} has an empty value; give one or leave it away")
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            warnings.simplefilter("ignore", FutureWarning)
            known = modules() if wants_help or arguments[0] not in SUBCOMMANDS else modules([arguments[0]])
            args = parser(known).parse_args(arguments)
            code = int(importlib.import_module(f"{__package__}.{args.subcommand}.command").run(args))
            sys.stdout.flush()  # a full disk is noticed here, not when Python ends
            return code
    except UserError as e:
        _say(str(e))
        return 2 if isinstance(e, UsageError) else 1
    except KeyboardInterrupt:
        _say("interrupted; no result was saved")
        return 130
    except BrokenPipeError:  # `bench | head`
        _silence()
        return 1
    except OSError as e:
        _say(f"{e.filename}: {e.strerror}" if e.filename else str(e.strerror or e))
        _silence()
        return 1
    except MemoryError:
        _say("out of memory; try a smaller --size or --seconds")
        return 1


def _blank(arguments: Sequence[str]) -> str | None:
    """The option before an empty or blank value (an unset variable, say), which no option takes; None: there is none.

    As a path it would be the working directory, as a pattern everything.
    """
    option = "an argument"
    for argument in arguments:
        value = argument
        if argument.startswith("--"):
            option, equals, value = argument.partition("=")
            value = value if equals else option
        if not value.strip():
            return option
    return None


def _ended(_signal: int, _frame: object) -> None:
    """A polite kill ends the columns' processes too: they are closed on the way out."""
    sys.exit(143)


def _silence() -> None:
    """What standard output still holds cannot be written, and must not fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
