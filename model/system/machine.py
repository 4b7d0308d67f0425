"""What this machine is, by py-cpuinfo and psutil: processor, cores, cache and memory."""

from __future__ import annotations

import functools
import os
import platform
import re
from pathlib import Path

import psutil

DEFAULT_CACHE_BYTES = 32 << 20


@functools.cache
def processor() -> str:
    """Return the processor's name as the system gives it."""
    from cpuinfo import get_cpu_info

    return get_cpu_info().get("brand_raw") or platform.processor() or platform.machine()


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def cache_bytes() -> int:
    """Return the size of the last-level cache; 32 MiB where the system does not say.

    By hand: py-cpuinfo gave 1 MiB for a cache of 32.
    """
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        if found := re.fullmatch(r"(\d+)([KMG]?)", file.read_text().strip()):
            sizes.append(int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]])
    return max(sizes, default=DEFAULT_CACHE_BYTES)


def memory() -> int:
    """Return the bytes of physical memory."""
    return int(psutil.virtual_memory().total)


def available() -> int:
    """Return the bytes of memory that can be used without swapping."""
    return int(psutil.virtual_memory().available)
