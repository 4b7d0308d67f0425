"""A name of the machine for files, and the load of other programs; the rest is in `model.system.machine`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from typing import NamedTuple

import psutil

from model.system.machine import cores, processor

CPU_TIMES = ("user", "nice", "system", "irq", "softirq", "steal")
"""The times in which a core is not idle, as psutil names them; not every system has all."""
MIN_BUSY_CORES = 0.25
"""Cores that other programs must keep busy to count: below are ticks, and this program's own bookkeeping processes."""
MIN_SPAN = 0.1
"""Seconds below which the system's counters say nothing, since they count ticks of 10 ms."""


def slug() -> str:
    """Return the machine's name for a file: processor and cores, in lower case."""
    return re.sub(r"[^a-z0-9]+", "-", f"{processor()} {cores()}c".lower()).strip("-")


class Busy(NamedTuple):
    """Seconds of the clock, of all cores working, and of this process and its ended children.

    Steal time counts as work; None where the system does not say.
    """

    wall: float
    machine: float | None
    own: float

    def since(self, start: Busy) -> Busy:
        """Return what passed between two readings."""
        known = self.machine is not None and start.machine is not None
        worked = self.machine - start.machine if known else None  # type: ignore[operator]
        return Busy(self.wall - start.wall, worked, self.own - start.own)


def busy() -> Busy:
    """Take a reading now."""
    own, all_cores = os.times(), psutil.cpu_times()
    worked = sum(getattr(all_cores, name, 0.0) for name in CPU_TIMES)
    return Busy(time.perf_counter(), worked, own.user + own.system)


def others(spans: Iterable[Busy]) -> float | None:
    """Return how many cores other programs kept busy in spans of `Busy.since`; None where unknown or under MIN_SPAN."""
    known = [(wall, worked - own) for wall, worked, own in spans if worked is not None]
    total = sum(wall for wall, _ in known)
    return max(0.0, sum(theirs for _, theirs in known) / total) if total >= MIN_SPAN else None
