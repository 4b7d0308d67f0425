"""MLX's kernels that compute element by element, with broadcasting, strides and choices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from .launch import BF16, EPS, F16, F32, Case, normal, run, wide


def binary_broadcast() -> Case:
    a, b = normal(4, 1, 6), mx.concatenate([normal(5, 1, seed=2)] * 2)  # short inputs would be in constant memory
    given = {"a": a, "b": b, "shape": [4, 5, 6], "a_strides": [6, 0, 1], "b_strides": [0, 1, 0], "ndim": 3}
    right = np.array(a + b[:5])
    return Case(
        ("binary_ops.h", "binary.h"),
        "binary_g",
        "float, float, Add, 2, int",
        given,
        F32,
        right,
        (3, 5, 4),
        (3, 5, 4),
        out="c",
    )


def unary_complex() -> Case:
    rng = np.random.default_rng(0)
    z = rng.normal(size=64) + 1j * rng.normal(size=64)
    given = {"in": mx.array(z.astype(np.complex64)), "size": 64}
    return Case(
        ("unary_ops.h", "unary.h"),
        "unary_v",
        "complex64_t, complex64_t, Sqrt, 1",
        given,
        mx.complex64,
        np.sqrt(z),
        (64, 1, 1),
        (32, 1, 1),
        8 * EPS[F32] * float(np.abs(z).max()),
    )


def copy_transposed() -> Case:
    x = normal(4, 5, 6)
    given = {"src": x, "src_shape": [6, 5, 4], "src_strides": [1, 6, 30], "ndim": 3}
    right = np.array(x.transpose(2, 1, 0).astype(F16))
    return Case(("copy.h",), "copy_g", "float, half, 2, int", given, F16, right, (2, 5, 6), (2, 5, 6), out="dst")


def choice() -> Case:
    rng = np.random.default_rng(0)
    a, b, c = mx.array(rng.random((6, 4)) < 0.5), normal(4, 6, dtype=BF16), normal(1, 6, dtype=BF16, seed=1)
    given = {
        "a": a,
        "b": b,
        "c": mx.concatenate([c, c], 1),
        "shape": [4, 6],
        "a_strides": [1, 4],
        "b_strides": [6, 1],
        "c_strides": [0, 1],
        "ndim": 2,
    }
    return Case(
        ("ternary_ops.h", "ternary.h"),
        "ternary_g",
        "bfloat16_t, Select, 2, int",
        given,
        BF16,
        np.where(np.array(a).T, wide(b), wide(c)),
        (3, 4, 1),
        (3, 4, 1),
        out="d",
    )


def quotient_and_remainder() -> Case:
    rng = np.random.default_rng(0)
    a, b = (mx.array(rng.integers(lo, 50, 37), dtype=mx.int32) for lo in (-50, 1))
    q, remainder = np.divmod(np.array(a), np.array(b))
    return Case(
        ("binary_ops.h", "binary_two.h"),
        "binary_vv",
        "int, int, DivMod, 2",
        {"a": a, "b": b, "size": 37},
        mx.int32,
        q,
        (19, 1, 1),
        (19, 1, 1),
        out="c",
        also={"d": (mx.int32, remainder)},
    )


def unary_strided() -> Case:
    x = normal(5, 14, dtype=F16)
    ndim = mx.full((8,), 2, dtype=mx.int32)  # long enough for device memory
    given = {"in": x, "in_shape": [14, 5], "in_strides": [1, 14], "ndim": ndim}
    return Case(
        ("unary_ops.h", "unary.h"),
        "unary_g",
        "half, half, Exp, 2, int",
        given,
        F16,
        np.exp(wide(x)).T,
        (3, 14, 1),
        (3, 14, 1),
        2 * EPS[F16] * float(np.exp(wide(x)).max()),
        texts={"ndim": "ndim_[0]"},
    )


FAMILIES: tuple[Callable[[], Case], ...] = (
    binary_broadcast,
    unary_complex,
    copy_transposed,
    choice,
    quotient_and_remainder,
    unary_strided,
)


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_a_family(folder: Path, family: Callable[[], Case]) -> None:
    assert run(family(), FAMILIES.index(family), folder).issues == []
