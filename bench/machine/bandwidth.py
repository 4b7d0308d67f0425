"""The bandwidth at which this machine streams memory: the yardstick of everything that reads weights.

On the CPU: all cores read a buffer many times larger than the cache through the native extension's `stream`, which
loads every cache line once and writes nothing; where that is not built, through numpy's maximum of bytes, which reaches
somewhat less. On Metal: `mx.max` of such a buffer. A yardstick too short would flatter: the method is in every result.

The buffer asks for huge pages: with pages of 4 KiB a virtual machine was seen to read at half to two thirds of that
speed, and whether it gets huge ones unasked differs from machine to machine. What remains is the machine's own: there,
two old buffers and a fresh one, all in huge pages, were read at 62, 63 and 59 GB/s, 15 seconds later at 36, 38 and 41,
and 15 later at 53 all three, with no time stolen; loops of 16 and of 64 bytes a load, in one chunk a thread or many,
were within that noise of each other. It is neither the pages, nor where they lie, nor the loop. So runs read it again
in every round, their figure is the median of all passes, and tables show how far these lie apart.
"""

from __future__ import annotations

import contextlib
import mmap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from model.system.machine import cache_bytes, cores

from ..stats import Samples

Bytes = npt.NDArray[np.uint8]
PASSES_A_ROUND = 3


@dataclass
class Bandwidth:
    """Streaming passes over a buffer of `bytes`: those before the run, and some in every round of it."""

    bytes: int
    seconds: Samples
    method: str = ""
    rounds: list[Samples] = field(default_factory=list)


def buffer_bytes() -> int:
    """Return eight times the cache, from 256 MiB to 1 GiB."""
    return min(max(8 * cache_bytes(), 256 << 20), 1 << 30)


def _reader(buffer: Bytes) -> tuple[Callable[[], Any], str]:
    """Return a function that reads the whole buffer on all cores, and its name."""
    try:
        from kernels import native

        words = buffer.view(np.uint64)
        if native.unavailable() is None:
            native.stream(words[:1])
            return lambda: native.stream(words), f"C++ loop, {native.info()['threads']} threads"
    except (ImportError, AttributeError):  # no MLX, or an extension built before it had the loop
        pass
    threads = cores()
    parts, pool = np.array_split(buffer, threads), ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.ndarray.max, parts)), f"numpy maximum, {threads} threads"


def _buffer(size: int) -> tuple[Bytes, str]:
    """Return bytes that have been written once, and the kind of pages that were asked for."""
    memory, pages = mmap.mmap(-1, size), ""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
            pages = " in huge pages"
    buffer = np.frombuffer(memory, dtype=np.uint8)
    buffer[:] = 1
    return buffer, pages


class StreamedBuffer:
    """A buffer to read; made once, since touching its pages takes longer than reading them."""

    def __init__(self, size: int | None = None, *, metal: bool = False) -> None:
        self.size = size or buffer_bytes()
        if metal:
            import mlx.core as mx

            array = mx.ones((self.size // 4,), dtype=mx.float32)
            mx.eval(array)
            self._read: Callable[[], Any] = lambda: mx.eval(array.max())
            self.method = f"mx.max of {self.size >> 20} MiB on the GPU"
        else:
            buffer, pages = _buffer(self.size)
            self._read, name = _reader(buffer)
            self.method = f"{name}, over {self.size >> 20} MiB{pages}"

    def read(self) -> float:
        """Return the seconds that one pass takes."""
        start = time.perf_counter()
        self._read()
        return time.perf_counter() - start

    def measure(self, passes: int = 15) -> Bandwidth:
        """Time `passes` passes over the buffer after one that is not timed."""
        self.read()
        return Bandwidth(self.size, [self.read() for _ in range(passes)], self.method)

    def round(self) -> Samples:
        """Time a few passes, for a round of a run."""
        return [self.read() for _ in range(PASSES_A_ROUND)]


def column(metal: bool) -> tuple[StreamedBuffer, Bandwidth]:
    """Make the buffer in a process of its own (see `processes.worker`) and measure it."""
    stream = StreamedBuffer(metal=metal)
    return stream, stream.measure()
