"""What this machine is: processor, memory, caches, and how much of it others are using."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

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
    """Processor seconds so far: of the whole machine (the hypervisor's theft counted in), and of this process tree."""

    wall: float
    machine: float
    own: float


def _machine_seconds() -> float:
    """Seconds that all cores have been busy or stolen, since boot; nan where unknown."""
    if LINUX:
        fields = [float(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        user, nice, system, _idle, _iowait, irq, softirq, steal = fields
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    try:
        import psutil  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return float("nan")
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def busy() -> Busy:
    """Now, for `others`."""
    own = os.times()
    return Busy(time.perf_counter(), _machine_seconds(), own.user + own.system)


def others(start: Busy, end: Busy) -> float | None:
    """Cores that others kept busy between two readings; None where the system does not say.

    Ticks are 10 ms long, so an interval under a tenth of a second says nothing and gives None.
    """
    wall = end.wall - start.wall
    used = (end.machine - start.machine) - (end.own - start.own)
    if wall < 0.1 or used != used:
        return None
    return max(0.0, used / wall)
