"""The number of cores this process was given, where that is fewer than it may run on: by a container, or by Slurm."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path


def limit(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the smallest of the cgroups' CPU quotas, in whole cores and at least 1, and SLURM_CPUS_PER_TASK.

    Return None without any. Threads beyond a quota are not refused: the kernel stops all of them for the rest of each
    period, which is slower.
    """
    found = [quota for quota in _quotas(root) if quota]
    if task := _number(environment.get("SLURM_CPUS_PER_TASK", "")):
        found.append(task)
    return min(found, default=None)


def fewer() -> int:
    """Return the threads to use where this process was given fewer cores than it may run on, else 0 for the default."""
    if _number(os.environ.get("INSTRUCT_MUSICGEN_THREADS", "")):
        return 0
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = limit()
    return given if given is not None and given < allowed else 0


def _number(text: str) -> int:
    """Return a number of up to nine digits; 0 for everything else."""
    return int(text) if re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else 0


def _quotas(root: Path) -> list[int]:
    """Return the CPU quotas of every cgroup from this process's own up to the root, versions 2 and 1."""
    quotas = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if number == "0" and not controllers:
            base, files = root / "sys/fs/cgroup", ["cpu.max"]
        elif "cpu" in controllers.split(","):
            base, files = root / "sys/fs/cgroup" / controllers, ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
            base = base if base.is_dir() else root / "sys/fs/cgroup/cpu"
        else:
            continue
        here = Path(path.strip("/"))
        for folder in (here, *here.parents):  # in a container, the path may be the host's: then the root's files count
            quotas.append(_cores(" ".join(_text(base / folder / file) for file in files)))
    return quotas


def _cores(text: str) -> int:
    """Return the cores of "QUOTA PERIOD" in microseconds; 0 for "max" or -1, which is no limit."""
    fields = text.split()
    if len(fields) < 2 or not all(field.isdigit() for field in fields[:2]) or not int(fields[1]):
        return 0
    return max(1, math.ceil(int(fields[0]) / int(fields[1])))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
