"""What a column's stages are measured with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

from ..machine import memory


class Clock:
    """Seconds, peak resident memory and peak MLX memory of each stage of a round."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.rss: dict[str, int] = {}
        self.mlx: dict[str, int] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block as `stage`; a stage may have several blocks."""
        memory.reset_peak_rss()
        mx.reset_peak_memory()
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.rss[stage] = max(memory.peak_rss(), self.rss.get(stage, 0))
        self.mlx[stage] = max(mx.get_peak_memory(), self.mlx.get(stage, 0))
