"""How fast this machine can stream memory: the yardstick for everything that reads weights.

On the CPU: all cores read a buffer many times larger than the cache, each its own part, through numpy's vectorised
maximum of bytes, which loads every cache line once, writes nothing and releases the GIL. On Metal: `mx.max` of such a
buffer. Plain loads, no tricks: a ceiling that honest kernels can come close to, a few percent under what non-portable
code (huge pages, prefetch by hand) may reach.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from . import machine


def buffer_bytes() -> int:
    """Eight times the cache, from 256 MiB to 1 GiB."""
    return min(max(8 * machine.cache_bytes(), 256 << 20), 1 << 30)


class Stream:
    """A buffer to read; made once, since touching its pages takes longer than reading them."""

    def __init__(self, size: int | None = None, *, metal: bool = False) -> None:
        self.size = size or buffer_bytes()
        self.metal = metal
        if metal:
            import mlx.core as mx

            self.array = mx.ones((self.size // 4,), dtype=mx.float32)
            mx.eval(self.array)
            self.method = f"mx.max of {self.size >> 20} MiB on the GPU"
        else:
            threads = machine.cores()
            self.parts = np.array_split(np.ones(self.size, dtype=np.uint8), threads)
            self.pool = ThreadPoolExecutor(threads)
            self.method = f"numpy maximum of {self.size >> 20} MiB, {threads} threads"

    def read(self) -> float:
        """Seconds that one pass takes."""
        start = time.perf_counter()
        if self.metal:
            import mlx.core as mx

            mx.eval(self.array.max())
        else:
            for _ in self.pool.map(np.ndarray.max, self.parts):
                pass
        return time.perf_counter() - start

    def measure(self, passes: int = 7) -> dict[str, Any]:
        """The record that results keep: method, bytes and seconds of each pass."""
        self.read()
        return {"method": self.method, "bytes": self.size, "seconds": [self.read() for _ in range(passes)]}
