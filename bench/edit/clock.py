"""The clock of a column's stages: seconds, and peak memory of this process.

On Linux the peak is VmHWM: `ru_maxrss` would also count the parent that forked a child, before it became the child.
"""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

STATUS = Path("/proc/self/status")


class Clock:
    """Seconds, peak resident memory and peak MLX memory of each stage of a round."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.rss: dict[str, int] = {}
        self.mlx: dict[str, int] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block as `stage`; a stage may have several blocks."""
        reset_peak_rss()
        mx.reset_peak_memory()
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.rss[stage] = max(peak_rss(), self.rss.get(stage, 0))
        self.mlx[stage] = max(mx.get_peak_memory(), self.mlx.get(stage, 0))


def peak_rss() -> int:
    """Return the largest resident set so far in bytes, or since `reset_peak_rss` where that works."""
    if STATUS.exists():
        match = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        if match:
            return int(match[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_rss() -> bool:
    """Start the peak anew from what is resident now.

    Return False where the system can't; the peak then is of all so far.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
