"""What this machine is: processor, memory, caches, and how much of it others are using."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

LINUX = sys.platform.startswith("linux")


def _sysctl(key: str) -> str | None:
    try:
        return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@functools.cache
def processor() -> str:
    """The processor's name as the system gives it."""
    if LINUX:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if match:
            return match[1].strip()
    return _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available() -> int:
    """Bytes of memory that can be used without swapping: what Linux estimates, else three quarters of all."""
    if LINUX:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if match:
            return int(match[1]) << 10
    return memory() * 3 // 4


@functools.cache
def cache_bytes() -> int:
    """Size of the last-level cache; 32 MiB where the system does not say."""
    sizes = [32 << 20] if not LINUX else []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        number, unit = re.fullmatch(r"(\d+)([KMG]?)", file.read_text().strip()).groups()  # type: ignore[union-attr]
        sizes.append(int(number) << {"": 0, "K": 10, "M": 20, "G": 30}[unit])
    return max(sizes, default=32 << 20)


def slug() -> str:
    """The machine's name for a file: processor and cores, in lower case."""
    return re.sub(r"[^a-z0-9]+", "-", f"{processor()} {cores()}c".lower()).strip("-")


class Busy(NamedTuple):
    """Seconds: of the clock, of all cores working (the hypervisor's theft counted in; None where the system does not
    say), and of this process and its ended children."""

    wall: float
    machine: float | None
    own: float

    def since(self, start: Busy) -> Busy:
        """What passed between two readings."""
        known = self.machine is not None and start.machine is not None
        worked = self.machine - start.machine if known else None  # type: ignore[operator]
        return Busy(self.wall - start.wall, worked, self.own - start.own)


def _machine_seconds() -> float | None:
    """Seconds that all cores have been busy or stolen, since boot; None where unknown."""
    if LINUX:
        fields = [float(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        user, nice, system, _idle, _iowait, irq, softirq, steal = fields
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    try:
        import psutil  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return None
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def busy() -> Busy:
    """A reading now."""
    own = os.times()
    return Busy(time.perf_counter(), _machine_seconds(), own.user + own.system)


def others(spans: Iterable[Sequence[Any]]) -> float | None:
    """Cores that others kept busy over spans of `Busy.since`, as saved; None where the system does not say.

    The system counts in ticks of 10 ms, so spans of less than a tenth of a second in all say nothing and give None.
    """
    known = [(wall, worked - own) for wall, worked, own in spans if worked is not None]
    total = sum(wall for wall, _ in known)
    return max(0.0, sum(theirs for _, theirs in known) / total) if total >= 0.1 else None
