"""`conv1d`, `conv_transpose1d` and `lstm` on every backend against the float64 oracle."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
from kernels import Ops
from reference import bounds, oracle, tolerance

from ... import strategies
from ...strategies import Random

channels = st.integers(1, 40)


def same(got: mx.array, want: mx.array) -> None:
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(np.array(got.astype(mx.float32)), np.array(want.astype(mx.float32)))


@given(
    seed=strategies.seeds,
    rows=st.integers(1, 2),
    c=channels,
    n=channels,
    width=st.integers(1, 9),
    stride=st.integers(1, 8),
    frames=st.integers(1, 40),
    elu=st.booleans(),
    residual=st.booleans(),
    dtype=strategies.dtypes,
    layout=strategies.views,
)
def test_conv1d(
    ops: Ops,
    seed: int,
    rows: int,
    c: int,
    n: int,
    width: int,
    stride: int,
    frames: int,
    elu: bool,
    residual: bool,
    dtype: mx.Dtype,
    layout: str,
) -> None:
    r = Random(seed)
    extra = seed % stride  # samples that no frame uses
    x = r.normal(rows, (frames - 1) * stride + width + extra, c, dtype=dtype, layout=layout)
    w = r.normal(n, width, c, dtype=dtype, std=(width * c) ** -0.5)
    b = r.normal(n, dtype=dtype)
    old = r.normal(rows, frames, n, dtype=dtype, layout=layout) if residual else None
    y = ops.conv1d(x, w, b, stride=stride, elu=elu, residual=old)
    expected = oracle.conv1d(x, w, b, stride=stride, elu=elu, residual=old)
    tolerance.check(y, expected, bounds.convolution({"x": x, "w": w, "residual": old}, expected), dtype=dtype)


@given(
    seed=strategies.seeds,
    rows=st.integers(1, 2),
    c=channels,
    n=channels,
    stride=st.integers(1, 8),
    factor=st.sampled_from((1, 2)),
    extra=st.sampled_from((0, 0, 1)),
    frames=st.integers(1, 30),
    elu=st.booleans(),
    dtype=strategies.dtypes,
    layout=strategies.views,
)
def test_conv_transpose1d(
    ops: Ops,
    seed: int,
    rows: int,
    c: int,
    n: int,
    stride: int,
    factor: int,
    extra: int,
    frames: int,
    elu: bool,
    dtype: mx.Dtype,
    layout: str,
) -> None:
    r = Random(seed)
    width = factor * stride + extra
    x = r.normal(rows, frames, c, dtype=dtype, layout=layout)
    w = r.normal(n, width, c, dtype=dtype, std=(width * c) ** -0.5)
    b = r.normal(n, dtype=dtype)
    y = ops.conv_transpose1d(x, w, b, stride=stride, elu=elu)
    expected = oracle.conv_transpose1d(x, w, b, stride=stride, elu=elu)
    tolerance.check(y, expected, bounds.convolution({"x": x, "w": w}, expected), dtype=dtype)


@pytest.mark.parametrize(
    "dtype", [pytest.param(d, marks=[pytest.mark.slow] * (d != mx.float32)) for d in strategies.DTYPES]
)
@pytest.mark.parametrize(
    ("n", "stride", "width"),
    [(n, stride, width) for n in (1, 2, 4) for stride in (1, 2, 3, 4) for width in range(1, 9) if n * stride <= 4],
)
def test_a_transposed_convolution_of_few_outputs_stays_in_its_row(
    ops: Ops, n: int, stride: int, width: int, dtype: mx.Dtype
) -> None:
    """Whatever its last samples are; with AddressSanitizer also in its memory, whose end the last row's is."""
    r = Random(width)
    x, w = r.normal(2, 12, 256, dtype=dtype), r.normal(n, width, 256, dtype=dtype, std=(width * 256) ** -0.5)
    b = r.normal(n, dtype=dtype)
    expected = oracle.conv_transpose1d(x, w, b, stride=stride)
    within = bounds.convolution({"x": x, "w": w}, expected)
    tolerance.check(ops.conv_transpose1d(x, w, b, stride=stride), expected, within, dtype=dtype)
    infinite = mx.concatenate([mx.full((1, 12, 256), mx.inf, dtype=dtype), x[1:]])
    for _ in range(10):  # rows are computed by several threads, in any order
        y = ops.conv_transpose1d(infinite, w, b, stride=stride)
        tolerance.check(y[1:], expected[1:], within, dtype=dtype)


@given(
    seed=strategies.seeds, c=channels, n=channels, width=st.integers(1, 9), stride=st.integers(1, 8),
    frames=st.integers(1, 40), dtype=strategies.dtypes, layout=strategies.views,
)  # fmt: skip
def test_weights_that_are_laid_out_give_the_same_bits(
    ops: Ops, seed: int, c: int, n: int, width: int, stride: int, frames: int, dtype: mx.Dtype, layout: str
) -> None:
    """And `plain` gives them back."""
    r = Random(seed)
    x, b = r.normal(2, frames + width, c), r.normal(n, dtype=dtype)
    w = r.normal(n, width, c, dtype=dtype, layout=layout)
    down, up = ops.lay_out(w, "conv1d", stride=stride), ops.lay_out(w, "conv_transpose1d", stride=stride)
    same(ops.conv1d(x, down, b, stride=stride, elu=True), ops.conv1d(x, w, b, stride=stride, elu=True))
    same(ops.conv_transpose1d(x, up, b, stride=stride), ops.conv_transpose1d(x, w, b, stride=stride))
    maps, bias = [r.normal(4 * c, c, dtype=dtype, layout=layout, std=0.3) for _ in range(2)], r.normal(4 * c)
    recurrent = [ops.lay_out(each, "lstm") for each in maps]
    for few in (recurrent, [recurrent[0], maps[1]], [maps[0], recurrent[1]]):
        for got, want in zip(ops.lstm(x, *few, bias), ops.lstm(x, *maps, bias)):
            same(got, want)
    for laid_out, weight in ((down, w), (up, w), *zip(recurrent, maps)):
        assert tuple(laid_out.shape) == weight.shape
        same(reference.lay_out(laid_out, "conv1d").astype(mx.float32), weight.astype(mx.float32))
    same(reference.conv1d(x, down, b, stride=stride), reference.conv1d(x, w, b, stride=stride))


def test_weights_of_another_shape_are_not_laid_out() -> None:
    native = pytest.importorskip("kernels.native")
    for shape, operation in (((4, 3), "conv1d"), ((4,), "conv_transpose1d"), ((9, 2), "lstm"), ((8, 2, 2), "lstm")):
        with pytest.raises(ValueError, match=rf"w \{str(shape)[:-1]}.* do not fit {operation}; w must be float"):
            native.lay_out(mx.zeros(shape), operation)


def test_weights_that_are_laid_out_for_another_use_serve_too(ops: Ops) -> None:
    """Panels of stride 2 and 3 are of one shape here."""
    r = Random(0)
    x, w, bias = r.normal(1, 9, 3), r.normal(7, 4, 3), r.normal(7)
    two, whole = ops.lay_out(w, "conv_transpose1d", stride=2), ops.lay_out(w, "conv1d")
    for laid_out in (two, whole):
        same(ops.conv_transpose1d(x, laid_out, bias, stride=3), ops.conv_transpose1d(x, w, bias, stride=3))
        same(ops.conv1d(x, laid_out, bias), ops.conv1d(x, w, bias))


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize(("rows", "frames", "size"), ((1, 1, 8), (2, 40, 24), (1, 7, 128)))
def test_lstm(ops: Ops, dtype: mx.Dtype, rows: int, frames: int, size: int) -> None:
    r = Random(size)
    x = r.normal(rows, frames, size, dtype=dtype)
    w_ih, w_hh = (r.normal(4 * size, size, dtype=dtype, std=0.7 * size**-0.5) for _ in range(2))
    bias = r.normal(4 * size, dtype=dtype, std=0.3)
    within = bounds.lstm({"x": x, "w_hh": w_hh})
    for state in (None, r.normal(2, rows, size, std=0.5)):
        y, after = ops.lstm(x, w_ih, w_hh, bias, state)
        want, left = oracle.lstm(x, w_ih, w_hh, bias, state)
        tolerance.check(y, want, within, dtype=dtype)
        # A cell adds up frame by frame and is not bounded by 1, as a hidden value is.
        tolerance.check(after, left, within * max(1.0, float(np.abs(left).max())), dtype=mx.float32)
        assert (after.shape, after.dtype) == ((2, rows, size), mx.float32)


@given(seed=strategies.seeds, rows=st.integers(1, 3), frames=st.integers(2, 20), data=st.data())
def test_an_lstm_goes_on_from_the_state_it_left(
    ops: Ops, seed: int, rows: int, frames: int, data: st.DataObject
) -> None:
    """A signal in two parts is the signal at once."""
    r, size, cut = Random(seed), 16, data.draw(st.integers(1, frames - 1))
    x = r.normal(rows, frames, size)
    weights = [r.normal(4 * size, size, std=0.7 * size**-0.5) for _ in range(2)]
    weights.append(r.normal(4 * size, std=0.3))
    whole, end = ops.lstm(x, *weights)
    first, state = ops.lstm(x[:, :cut], *weights)
    second, after = ops.lstm(x[:, cut:], *weights, state)
    np.testing.assert_allclose(np.array(mx.concatenate([first, second], axis=1)), np.array(whole), atol=2e-6)
    np.testing.assert_allclose(np.array(after), np.array(end), atol=1e-5)


def test_compute_dtype_is_a_float(ops: Ops) -> None:
    for dtype in strategies.DTYPES:
        assert ops.compute_dtype(dtype) in strategies.DTYPES
    assert ops.compute_dtype(mx.float32) == mx.float32
