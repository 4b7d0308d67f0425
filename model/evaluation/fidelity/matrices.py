"""The weights themselves: how far each matrix is from the reference's, before anything is run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...bundle.bundle import Bundle

GAIN = 0.05
"""Rounding to 4 bits changes a matrix's gain by about 1 %, even one of 64 by 64."""
SIGMAS = 5.0
"""Standard deviations of a row's gain by chance; it passes GAIN only in rows of under a hundred weights."""


@dataclass(frozen=True)
class MatrixError:
    """One matrix against the reference's: relative error in the 2-norm, and gain.

    `gain` is <w, r>/<r, r>, the factor that best explains it as the reference r scaled: rounding leaves it at 1, scales
    that are off by 10 % make it 1.1.
    """

    module: str
    error: float
    gain: float
    inputs: int
    """K: a row's gain by chance alone is about `error` / sqrt(K)."""
    row: int
    """The row whose gain is furthest from 1, and that gain: one row's damage hardly shows in the whole matrix."""
    row_gain: float

    @property
    def scaled(self) -> bool:
        """Whether its size is off by more than rounding can."""
        return abs(self.gain - 1) > GAIN

    @property
    def row_scaled(self) -> bool:
        """Whether the size of single rows is off, though that of the whole matrix is not."""
        chance = SIGMAS * self.error / math.sqrt(self.inputs)
        return not self.scaled and abs(self.row_gain - 1) > max(GAIN, chance)


def compare(reference: Bundle, other: Bundle, modules: Iterable[str]) -> list[MatrixError]:
    """Compare each matrix, one in memory at a time."""
    out = []
    for module in modules:
        r, w = dense(reference, module), dense(other, module)
        size, change, along = np.array(mx.stack([(r * r).sum(), mx.square(w - r).sum(), (w * r).sum()])).tolist()
        # An all-zero matrix has no size to relate to: its error is absolute.
        error, gain = (change / (size or 1.0)) ** 0.5, along / size if size else 1.0
        sizes, products = (np.array(each.sum(axis=1)) for each in (r * r, w * r))
        gains = np.divide(products, sizes, out=np.ones_like(sizes), where=sizes > 0)
        row = int(np.abs(gains - 1).argmax())
        out.append(MatrixError(module, error, gain, r.shape[1], row, float(gains[row])))
    return out


def dense(bundle: Bundle, module: str) -> mx.array:
    """Return a matrix as float32 [N, K], unpacked if it is packed."""
    tensors = bundle.load(n for n in bundle.tensors if n in {f"{module}.{p}" for p in ("weight", "scales", "biases")})
    weight, scales = tensors[f"{module}.weight"], tensors.get(f"{module}.scales")
    if scales is None:
        return weight.astype(mx.float32)
    q = bundle.config.packing(module)
    assert q is not None
    biases = tensors[f"{module}.biases"].astype(mx.float32)
    return mx.dequantize(weight, scales.astype(mx.float32), biases, group_size=q.group_size, bits=q.bits)
