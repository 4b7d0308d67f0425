"""A layer norm folded into the epilogue of a product; what depends on the matrix alone is made once.

With s near the mean of a row x, a and b the norm's weight and bias, and W = dequant(w):

    norm(x) W^T = rstd · (((x - s) · a) W^T - (mean - s) · c1) + c2,    c1 = W a,  c2 = W b

so that a product needs no pass over x before it, and every simdgroup sums x - s and (x - s)² as it goes. The constants
are of the unrounded dequantized weights, in float32: of weights rounded to float16 they would be off by percents of a
result where the mean is large.
"""

from __future__ import annotations

from typing import TypeAlias

import mlx.core as mx

from reference.contract import Norm, Packed

Folded: TypeAlias = mx.array
"""c1 and c2 as one float32 array [2, N]."""


def fold(weight: Packed, norm: Norm) -> Folded:
    """Compute and evaluate the constants of a matrix and a norm."""
    groups = weight.scales.shape[1]
    n, k = weight.shape
    ones = mx.ones((n, groups), dtype=mx.float32)
    # mx.dequantize rounds to the scales' type: here the quantized numbers come out as they are, and are scaled after.
    q = mx.dequantize(weight.w, ones, ones * 0, group_size=weight.group_size, bits=weight.bits)
    q = q.reshape(n, groups, k // groups)
    scales, biases = weight.scales.astype(mx.float32)[..., None], weight.biases.astype(mx.float32)[..., None]
    rows = (q * scales + biases).reshape(n, k)
    parts = [(rows * part.astype(mx.float32)).sum(axis=1) for part in (norm[0], norm[1])]
    constants = mx.stack(parts)
    mx.eval(constants)
    return constants
