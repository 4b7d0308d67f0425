"""Options that the measuring subcommands share, and what they do with a result."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from typing import Any

from model.errors import UsageError

from . import result_files
from .output import console
from .output.tables import Table
from .results import Result

SIZES = ("tiny", "small", "medium", "large")


def add(p: argparse.ArgumentParser, what: str) -> None:
    """Add `--json` and `--save`; `what` is the end of the file's default name."""
    p.add_argument("--json", action="store_true", help="print the result with all samples instead of the table")
    where = f"keep the result (default bench/results/<machine>-<commit>-{what}.json)"
    p.add_argument("--save", nargs="?", const="", metavar="FILE", help=where)


def within(option: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise UsageError unless the value is finite and between `low` and `high`."""
    if not low <= value <= high or value == math.inf:
        limit = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise UsageError(f"{option} {value:g} must be {limit}")


def positive(option: str, value: int) -> int:
    """Return the value. Raises UsageError if it is below 1."""
    within(option, value, 1)
    return value


def check(args: argparse.Namespace) -> None:
    """Raise UserError if `--save` cannot be written: now, not after minutes of measuring."""
    if args.save is not None:
        result_files.check_writable(args.save or None)


def show(args: argparse.Namespace, what: Any, tables: Iterable[Table]) -> None:
    """Print `what` as JSON if that was asked for, else its tables."""
    if args.json:
        print(result_files.dumps(what))
        return
    for table in tables:
        table.show(console.output())


def finish(args: argparse.Namespace, result: Result, tables: Iterable[Table]) -> None:
    """Print the result, as a table or as JSON, and save it even if printing fails."""
    try:
        show(args, result, tables)
    finally:
        if args.save is not None:
            saved = result_files.save(result, args.save or None)
            console.say(f"saved {saved}")
