"""What this machine is, by py-cpuinfo and psutil: processor, cores and memory."""

from __future__ import annotations

import functools
import os
import platform

import psutil


@functools.cache
def processor() -> str:
    """Return the processor's name as the system gives it."""
    from cpuinfo import get_cpu_info

    return get_cpu_info().get("brand_raw") or platform.processor() or platform.machine()


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Return the bytes of physical memory."""
    return int(psutil.virtual_memory().total)


def available() -> int:
    """Return the bytes of memory that can be used without swapping."""
    return int(psutil.virtual_memory().available)
