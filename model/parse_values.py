"""Parsers of values that people give, on the command line or over HTTP, one by one.

Each raises argparse's ArgumentTypeError for a wrong value; the message says what to write instead.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import instructions, instruments
from .decoding.guidance import MAX_GUIDANCE


def path(text: str) -> Path:
    """Return a path; "~" at its beginning stands for the home folder, also where no shell has seen it."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user
        return Path(text)


def seed(text: str) -> int | None:
    """Return a seed; None stands for random."""
    return None if text == "random" else integer(0, 2**64 - 1)(text)


def instruction(text: str) -> str:
    """Return a sentence as it is. It must not be blank."""
    with suppress(UnicodeError):  # UTF-8, in a locale that is not (LC_ALL=C)
        text = os.fsencode(text).decode("utf-8")
    if not text.strip():
        raise argparse.ArgumentTypeError('is empty; say what to do, for example "only the drums"')
    if not text.isprintable() and any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise argparse.ArgumentTypeError("is not valid text in UTF-8; set LC_ALL=C.UTF-8, and the terminal to UTF-8")
    return text


def instrument(text: str) -> str:
    """Return one instrument's name, checked."""
    try:
        return instruments.checked(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def instrument_names(text: str) -> tuple[str, ...]:
    """Return names of instruments, which are given with commas between."""
    try:
        return instructions.Vocabulary(tuple(name.strip() for name in text.split(","))).instruments
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def integer(low: int, high: float = math.inf) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`."""

    def parsed(text: str) -> int:
        value = _parsed(int, text, "a whole number")
        _check_range(text, value, low, high)
        return int(value)

    return parsed


def number(low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return a parser of finite numbers from `low` to `high`."""

    def parsed(text: str) -> float:
        value = _parsed(float, text, "a number")
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text} is not finite")
        _check_range(text, value, low, high)
        return float(value)

    return parsed


def flag(text: str) -> bool:
    """Return whether a text says true or false."""
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text!r:.60} must be true or false")
    return known[text.lower()]


def _parsed(kind: Callable[[str], Any], text: str, what: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None


def _check_range(text: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        least, most = (f"{limit:g}" if isinstance(limit, float) else str(limit) for limit in (low, high))
        limit = f"at least {least}" if high == math.inf else f"between {least} and {most}"
        raise argparse.ArgumentTypeError(f"{text} must be {limit}")


top_k = integer(0)
"""Read `top_k`: 0 stands for all tokens."""
temperature = number(0)
"""Read a temperature: 0 stands for the most probable token."""
guidance = number(-MAX_GUIDANCE, MAX_GUIDANCE)
"""Read the strength of guidance, within the limits that the Python interface has too."""
