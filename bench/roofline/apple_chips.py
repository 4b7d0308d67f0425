"""Apple chips and the memory bandwidth that Apple publishes for them, from apple_chips.csv.

GB/s as Apple's announcement or technical specification of the first Mac with the chip states it, rounded as Apple
rounds. apple.com was not within reach when this table was checked (2026): `checked` names the copy of Apple's text or
the report of it that was read instead, and says "arithmetic" where Apple gives no figure. Where a chip comes with two
memory widths, both are listed (the smaller M5 Max is left out: no source for its figure was read). Published peaks:
good decoding code reaches about 80 % of them.
"""

from __future__ import annotations

from csv import reader
from pathlib import Path
from typing import NamedTuple


class Chip(NamedTuple):
    """A chip, its published bandwidth in GB/s, where Apple says so, and where that was read."""

    name: str
    bandwidth: float
    source: str
    checked: str


with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as _file:
    CHIPS = tuple(Chip(name, float(rate), source, checked) for name, rate, source, checked in [*reader(_file)][1:])
