"""MLX's kernels of quantized numbers, in every way that it packs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from .launch import EPS, F16, F32, QUANTIZED, Case, normal, run, wide


def quantized_gather() -> Case:
    n, k = 32, 128
    w, s, b = mx.quantize(normal(3, n, k), group_size=64, bits=4)
    x = normal(5, 1, k, seed=3)
    left, right = np.array([4, 0, 2, 1, 3, 0, 1, 2]), np.array([2, 0, 1, 1, 2, 0, 0, 1])
    q = (np.array(w)[..., None] >> (4 * np.arange(8, dtype=np.uint32)) & 15).reshape(3, n, k)
    values = q * np.repeat(wide(s), 64, 2) + np.repeat(wide(b), 64, 2)
    given = {
        "w": w,
        "scales": s,
        "biases": b,
        "x": x,
        "lhs_indices": mx.array(left, dtype=mx.uint32),
        "rhs_indices": mx.array(right, dtype=mx.uint32),
        "in_vec_size": k,
        "out_vec_size": n,
        "x_batch_ndims": 1,
        "x_shape": [5, 1, k],
        "x_strides": [k, k, 1],
        "w_batch_ndims": 1,
        "w_shape": [3, n, k // 8],
        "w_strides": [n * k // 8, k // 8, 1],
        "s_strides": [n * 2, 2, 1],
        "b_strides": [n * 2, 2, 1],
        "batch_ndims": 1,
        "batch_shape": [8],
        "lhs_strides": [1],
        "rhs_strides": [1],
    }
    y = np.einsum("bmk,bnk->bmn", wide(x)[left], values[right])
    bound = 4 * k * EPS[F32] * float((np.abs(wide(x))[left] @ np.abs(values[right]).swapaxes(1, 2)).max())
    return Case(QUANTIZED, "affine_gather_qmv", "float, 64, 4", given, F32, y, (32, 8, 8), (32, 2, 1), bound, out="y")


def four_bit_floats() -> Case:
    """mxfp4: sixteen values of four bits, a power of two for each 32 of them."""
    n, k = 32, 512
    w, s = mx.quantize(normal(n, k), group_size=32, bits=4, mode="mxfp4")
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    q = (np.array(w)[..., None] >> (4 * np.arange(8, dtype=np.uint32)) & 15).reshape(n, k)
    values = np.where(q & 8, -1, 1) * table[q & 7] * np.repeat(2.0 ** (np.array(s).astype(int) - 127), 32, 1)
    x = normal(3, k, seed=4)
    given = {"w": w, "scales": s, "x": x, "in_vec_size": k, "out_vec_size": n, "x_batch_ndims": 0, "w_batch_ndims": 0}
    return Case(
        (*QUANTIZED[:2], "fp_quantized.h"),
        "fp_qmv_fast",
        "float, 32, 4, false",
        given,
        F32,
        wide(x) @ values.T,
        (96, 8, 1),
        (32, 2, 1),
        4 * k * EPS[F32] * float((np.abs(wide(x)) @ np.abs(values).T).max()),
        out="y",
    )


def quantize() -> Case:
    """Words of eight numbers of four bits; which numbers, MLX's CPU says."""
    w = normal(8, 128)
    q, s, b = mx.quantize(w, group_size=64, bits=4)
    given = {"w": w}
    return Case(
        QUANTIZED,
        "affine_quantize",
        "float, 64, 4",
        given,
        mx.uint8,
        np.array(q).view(np.uint8),
        (32, 16, 1),
        (32, 1, 1),
        out="out",
        also={"scales": (F32, np.array(s)), "biases": (F32, np.array(b))},
    )


def dequantize() -> Case:
    q, s, b = mx.quantize(normal(8, 128, dtype=F16), group_size=32, bits=8)
    right = wide(mx.dequantize(q, s, b, group_size=32, bits=8))
    given = {"w": q.view(mx.uint8), "scales": s, "biases": b}
    return Case(
        QUANTIZED,
        "affine_dequantize",
        "half, 32, 8",
        given,
        F16,
        right,
        (128, 8, 1),
        (32, 8, 1),
        2 * EPS[F16] * float(np.abs(right).max()),
    )


def quantized_from_the_left() -> Case:
    n, k = 128, 64
    x, w = normal(2, k, dtype=F16), normal(k, n, dtype=F16, seed=1)
    q, s, b = mx.quantize(w, group_size=64, bits=4)
    values = wide(mx.dequantize(q, s, b, group_size=64, bits=4))
    given = {
        "w": q,
        "scales": s,
        "biases": b,
        "x": x,
        "in_vec_size": k,
        "out_vec_size": n,
        "x_batch_ndims": 0,
        "w_batch_ndims": 0,
    }
    size = float((np.abs(wide(x)) @ np.abs(values)).max())
    return Case(
        QUANTIZED,
        "affine_qvm",
        "half, 64, 4, false",
        given,
        F16,
        wide(x) @ values,
        (64, 4, 1),
        (32, 2, 1),
        (4 * k * EPS[F32] + 4 * EPS[F16]) * size,
        out="y",
    )


def eight_bit_floats() -> Case:
    """mxfp8, as MLX's CPU packs it."""
    w = normal(8, 64)
    q, s = mx.quantize(w, group_size=32, bits=8, mode="mxfp8")
    return Case(
        (*QUANTIZED[:2], "fp_quantized.h"),
        "fp_quantize",
        "float, 32, 8, false",
        {"w": w},
        mx.uint8,
        np.array(q).view(np.uint8),
        (64, 8, 1),
        (32, 1, 1),
        also={"scales": (mx.uint8, np.array(s))},
    )


FAMILIES: tuple[Callable[[], Case], ...] = (
    quantized_gather,
    four_bit_floats,
    quantize,
    dequantize,
    quantized_from_the_left,
    eight_bit_floats,
)


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_a_family(folder: Path, family: Callable[[], Case]) -> None:
    assert run(family(), FAMILIES.index(family), folder).issues == []
