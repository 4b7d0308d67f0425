"""Every result is rounded once, to the nearest number of its type (of two as near, the even one): it is not cut off.

Inputs are whole numbers, so that sums are exact, or nearly, and what is left is the rounding of the result. Between
256 and 512 bfloat16 has the even numbers, between 2048 and 4096 float16 has.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from kernels import Ops

FIRST = {mx.bfloat16: 256, mx.float16: 2048}
ROWS = (1, 2, 5, 12)
K = 32


def odd_numbers(dtype: mx.Dtype) -> tuple[np.ndarray, np.ndarray]:
    """Eight odd numbers that the type lacks, and what they are rounded to: multiples of four."""
    values = FIRST[dtype] + 1 + 2 * np.arange(8)
    return values, np.where(values % 4 == 1, values - 1, values + 1)


def whole(row: mx.array) -> np.ndarray:
    return np.array(row.astype(mx.float32))


@pytest.mark.parametrize("dtype", FIRST)
@pytest.mark.parametrize("rows", ROWS)
def test_products(ops: Ops, dtype: mx.Dtype, rows: int) -> None:
    """Output n is 1 + n weights of 2, which its residual lifts into the range."""
    values, expected = odd_numbers(dtype)
    q = np.zeros((8, K), dtype=np.uint32)
    q[:, 0] = 1
    for n in range(8):
        q[n, 1 : 1 + n] = 2
    words = mx.array((q.reshape(8, K // 8, 8) << (4 * np.arange(8, dtype=np.uint32))).sum(-1).astype(np.uint32))
    scales = mx.ones((8, 1), dtype=dtype)
    x = mx.ones((rows, K), dtype=dtype)
    residual = mx.full((rows, 8), FIRST[dtype], dtype=dtype)
    y = ops.int4_matmul(x, words, scales, mx.zeros_like(scales), group_size=32, bits=4, residual=residual)
    assert y.dtype == dtype
    for row in whole(y):
        np.testing.assert_array_equal(row, expected)
    assert (values != expected).all()


def values_of(dtype: mx.Dtype, keys: int) -> tuple[mx.array, np.ndarray]:
    """Values [1,1,keys,8] whose mean is 3/4 of the way between two neighbors of the type, and the upper one."""
    low = FIRST[dtype] + 2 * np.arange(8)
    values = low + 2 * (np.arange(keys)[:, None] % 4 > 0)
    return mx.array(values).astype(dtype)[None, None], low + 2


@pytest.mark.parametrize("dtype", FIRST)
@pytest.mark.parametrize("steps", (1, 3))
def test_attention(ops: Ops, dtype: mx.Dtype, steps: int) -> None:
    """Queries of zeros give the mean of the values; the last of several sees them all."""
    v, expected = values_of(dtype, 12)
    q, k = (mx.zeros((1, 1, n, 8), dtype=dtype) for n in (steps, 12))
    y = ops.prefix_attention(q, k, v, q, k, v, 0.0, scale=1.0, length=12)
    np.testing.assert_array_equal(whole(y)[0, 0, -1], expected)


@pytest.mark.parametrize("dtype", FIRST)
def test_attention_to_the_text(ops: Ops, dtype: mx.Dtype) -> None:
    v, expected = values_of(dtype, 4)
    w, scales = mx.zeros((8, K // 8), dtype=mx.uint32), mx.ones((8, 1), dtype=dtype)
    y = ops.cross_attention(
        mx.ones((2, 1, K), dtype=dtype), w, scales, mx.zeros_like(scales), mx.zeros_like(v), v, scale=1.0,
        group_size=32, bits=4,
    )  # fmt: skip
    np.testing.assert_array_equal(whole(y)[0, 0], expected)
