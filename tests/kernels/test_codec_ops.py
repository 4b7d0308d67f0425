"""`conv1d`, `conv_transpose1d` and `lstm` on every backend against the float64 oracle."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import Ops
from reference import oracle

from .. import strategies, tolerance
from ..strategies import Random

channels = st.integers(1, 40)


def bound(x: mx.array, taps: int, w: mx.array, expected: np.ndarray, dtype: mx.Dtype, **terms: float) -> float:
    """A sum of taps · C products with x and w rounded to dtype."""
    size = taps * w.shape[2]
    x_norm = float(np.abs(oracle.float64(x)).max()) * size**0.5
    w_norm = float(np.sqrt((oracle.float64(w) ** 2).sum(axis=(1, 2)).max()))
    operands = tolerance.EPS[dtype] / size**0.5 * 2
    top = float(np.abs(expected).max()) + sum(terms.values())
    inside = (tolerance.EPS32 * size**0.5 + operands) * x_norm * w_norm
    return float(tolerance.SIGMAS * inside + tolerance.rounding(dtype, top, top, top))


@given(
    seed=strategies.seeds, rows=st.integers(1, 2), c=channels, n=channels, width=st.integers(1, 9),
    stride=st.integers(1, 8), frames=st.integers(1, 40), elu=st.booleans(), residual=st.booleans(),
    dtype=strategies.dtypes, layout=strategies.views,
)
def test_conv1d(
    ops: Ops, seed: int, rows: int, c: int, n: int, width: int, stride: int, frames: int, elu: bool, residual: bool,
    dtype: mx.Dtype, layout: str,
) -> None:
    r = Random(seed)
    extra = seed % stride  # samples that no frame uses
    x = r.normal(rows, (frames - 1) * stride + width + extra, c, dtype=dtype, layout=layout)
    w = r.normal(n, width, c, dtype=dtype, std=(width * c) ** -0.5)
    b = r.normal(n, dtype=dtype)
    old = r.normal(rows, frames, n, dtype=dtype, layout=layout) if residual else None
    y = ops.conv1d(x, w, b, stride=stride, elu=elu, residual=old)
    expected = oracle.conv1d(x, w, b, stride=stride, elu=elu, residual=old)
    extra_top = {} if old is None else {"residual": float(np.abs(oracle.float64(old)).max())}
    tolerance.check(y, expected, np.asarray(bound(x, width, w, expected, dtype, **extra_top)), dtype=dtype)


@given(
    seed=strategies.seeds, rows=st.integers(1, 2), c=channels, n=channels, stride=st.integers(1, 8),
    factor=st.sampled_from((1, 2)), extra=st.sampled_from((0, 0, 1)), frames=st.integers(1, 30), elu=st.booleans(),
    dtype=strategies.dtypes, layout=strategies.views,
)
def test_conv_transpose1d(
    ops: Ops, seed: int, rows: int, c: int, n: int, stride: int, factor: int, extra: int, frames: int, elu: bool,
    dtype: mx.Dtype, layout: str,
) -> None:
    r = Random(seed)
    width = factor * stride + extra
    x = r.normal(rows, frames, c, dtype=dtype, layout=layout)
    w = r.normal(n, width, c, dtype=dtype, std=(width * c) ** -0.5)
    b = r.normal(n, dtype=dtype)
    y = ops.conv_transpose1d(x, w, b, stride=stride, elu=elu)
    expected = oracle.conv_transpose1d(x, w, b, stride=stride, elu=elu)
    tolerance.check(y, expected, np.asarray(bound(x, width, w, expected, dtype)), dtype=dtype)


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize(("rows", "frames", "size"), ((1, 1, 8), (2, 40, 24), (1, 7, 128)))
def test_lstm(ops: Ops, dtype: mx.Dtype, rows: int, frames: int, size: int) -> None:
    """Gates contract (|tanh'|, |sigmoid'| <= 1, forget < 1), so an error a step adds up over the frames at most."""
    r = Random(size)
    x = r.normal(rows, frames, size, dtype=dtype)
    w_ih, w_hh = (r.normal(4 * size, size, dtype=dtype, std=0.7 * size**-0.5) for _ in range(2))
    bias = r.normal(4 * size, dtype=dtype, std=0.3)
    y = ops.lstm(x, w_ih, w_hh, bias)
    step = tolerance.SIGMAS * (tolerance.EPS32 * size**0.5 + tolerance.EPS[dtype] * 4)
    tolerance.check(y, oracle.lstm(x, w_ih, w_hh, bias), np.asarray(step * min(frames, 8)), dtype=dtype)


def test_compute_dtype_is_a_float(ops: Ops) -> None:
    for dtype in strategies.DTYPES:
        assert ops.compute_dtype(dtype) in strategies.DTYPES
    assert ops.compute_dtype(mx.float32) == mx.float32
