"""`bench`: speed, memory, traffic and quality on this machine. Without a subcommand: the end-to-end table.

Each subcommand is a folder of this package whose `command.py` has `add_parser(subparsers)` and `run(args) -> int`,
imported when it is asked for (or when the help lists them all).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence

from model.cli.arguments import Parser
from model.cli.process import run
from model.errors import UsageError

SUBCOMMANDS = [
    "edit", "kernels", "roofline", "compare", "report", "tune", "env", "sizes", "peers", "quality", "fidelity", "seams",
]  # fmt: skip
DEFAULT = "edit"


def modules(names: Sequence[str] = SUBCOMMANDS) -> list[str]:
    """Return those of the subcommands whose packages are here."""
    return [name for name in names if importlib.util.find_spec(f"{__package__}.{name}") is not None]


def parser(names: Sequence[str]) -> Parser:
    """Return a parser for the given subcommands."""
    top = Parser(
        prog="bench",
        description=__doc__.partition("\n")[0] if __doc__ else None,
        epilog="`bench` alone is `bench edit`; see `bench edit --help` for its options.",
    )
    subparsers = top.add_subparsers(dest="subcommand", metavar="subcommand", required=True, parser_class=Parser)
    for name in names:
        importlib.import_module(f"{__package__}.{name}.command").add_parser(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return its exit status.

    0: done; 1: failed, or a regression was found; 2: wrong usage.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run(
        lambda: _command(arguments), interrupted="no result was saved",
        out_of_memory="try a smaller --size or --seconds",
    )  # fmt: skip


def _command(arguments: list[str]) -> int:
    """Import and run one subcommand."""
    wants_help = arguments[:1] in (["-h"], ["--help"])
    if not wants_help and (not arguments or arguments[0].startswith("-")):
        arguments = [DEFAULT, *arguments]
    if (option := _blank(arguments)) is not None:
        raise UsageError(f"{option} has an empty value; give one or omit it")
    warnings.simplefilter("ignore", FutureWarning)
    known = arguments[:1] if arguments[0] in SUBCOMMANDS else modules()
    args = parser(known).parse_args(arguments)
    return int(importlib.import_module(f"{__package__}.{args.subcommand}.command").run(args))


def _blank(arguments: Sequence[str]) -> str | None:
    """Return the option before an empty or blank value (an unset variable, say), or None.

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


if __name__ == "__main__":
    sys.exit(main())
