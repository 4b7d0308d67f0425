"""Numbers of one tensor from the seed and the tensor's name, the same on every machine."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats.safetensors_file import Shape

Array = npt.NDArray[Any]


class Random:
    """Numbers of one tensor: PCG64's raw output, whose stream numpy guarantees."""

    def __init__(self, seed: int, name: str) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))

    def words(self, shape: Shape) -> Array:
        """Draw uint32 numbers, every bit random."""
        count = math.prod(shape)
        raw = np.asarray(self._bits.random_raw((count + 1) // 2), dtype="<u8")
        words: Array = raw.view("<u4")[:count].reshape(shape)
        return words

    def between(self, low: float, high: float, shape: Shape) -> Array:
        """Draw float32 numbers, uniform from `low` to `high`."""
        unit = (self.words(shape) >> 8).astype(np.float32) * np.float32(2.0**-24)
        result: Array = unit * np.float32(high - low) + np.float32(low)
        return result

    def spread(self, std: float, shape: Shape, mean: float = 0.0) -> Array:
        """Draw float32 numbers, uniform with this mean and standard deviation."""
        half = std * math.sqrt(3)
        return self.between(mean - half, mean + half, shape)
