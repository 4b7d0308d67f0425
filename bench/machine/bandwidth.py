"""How fast this machine can stream memory: the yardstick for everything that reads weights.

On the CPU: all cores read a buffer many times larger than the cache, each its own part, through a loop of C that loads
every cache line once and writes nothing; without a C compiler through numpy's maximum of bytes, which reaches somewhat
less. On Metal: `mx.max` of such a buffer. A yardstick too short would flatter: the method is in every result.

The buffer asks for huge pages: with pages of 4 KiB a virtual machine was seen to read at half to two thirds of that
speed, and whether it gets huge ones unasked differs from machine to machine. What remains is the machine's own:
there, the same buffer was read at 55 GB/s in one second and at 33 in the next. So runs read it again in every round,
and their figure is the median of all passes.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..stats import Samples
from . import compiled
from . import hardware as machine

PASSES_A_ROUND = 3

SOURCE = """\
#include <stddef.h>
#include <stdint.h>
uint64_t read_all(const uint64_t* a, size_t n) {
  uint64_t sum[16] = {0};
  for (size_t i = 0; i + 16 <= n; i += 16) {
    for (int j = 0; j < 16; j++) sum[j] |= a[i + j];
  }
  uint64_t all = 0;
  for (int j = 0; j < 16; j++) all |= sum[j];
  return all;
}
"""


@dataclass
class Bandwidth:
    """Streaming passes over a buffer of `bytes`: those before the run, and some in every round of it."""

    bytes: int
    seconds: Samples
    method: str = ""
    rounds: list[Samples] = field(default_factory=list)


def buffer_bytes() -> int:
    """Eight times the cache, from 256 MiB to 1 GiB."""
    return min(max(8 * machine.cache_bytes(), 256 << 20), 1 << 30)


def _reader() -> tuple[Callable[[np.ndarray], Any], str]:
    """What reads a part of the buffer, and its name."""
    try:
        function = ctypes.CDLL(str(compiled.library("stream", SOURCE, ["-march=native"]))).read_all
    except OSError:
        return np.ndarray.max, "numpy maximum"
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_size_t), ctypes.c_uint64
    return lambda part: function(part.ctypes.data, part.nbytes // 8), "C loop"


def _buffer(size: int) -> tuple[np.ndarray, str]:
    """Bytes that have been written once, and the kind of pages that were asked for."""
    memory, pages = mmap.mmap(-1, size), ""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
            pages = " in huge pages"
    buffer = np.frombuffer(memory, dtype=np.uint8)
    buffer[:] = 1
    return buffer, pages


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
            self.reader, name = _reader()
            buffer, pages = _buffer(self.size)
            self.parts = np.array_split(buffer, threads)
            self.pool = ThreadPoolExecutor(threads)
            self.method = f"{name} over {self.size >> 20} MiB{pages}, {threads} threads"

    def read(self) -> float:
        """Seconds that one pass takes."""
        start = time.perf_counter()
        if self.metal:
            import mlx.core as mx

            mx.eval(self.array.max())
        else:
            for _ in self.pool.map(self.reader, self.parts):
                pass
        return time.perf_counter() - start

    def measure(self, passes: int = 15) -> Bandwidth:
        """Read it once unmeasured, then `passes` times."""
        self.read()
        return Bandwidth(self.size, [self.read() for _ in range(passes)], self.method)

    def round(self) -> Samples:
        """Read it a few times, for a round of a run."""
        return [self.read() for _ in range(PASSES_A_ROUND)]


def column(metal: bool) -> tuple[Stream, Bandwidth]:
    """Make the buffer in a process of its own (see `processes.worker`) and measure it."""
    stream = Stream(metal=metal)
    return stream, stream.measure()
