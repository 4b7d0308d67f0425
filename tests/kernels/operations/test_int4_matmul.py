"""`int4_matmul` on every backend against the float64 oracle, and the laws it keeps."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import Ops
from reference import bounds, oracle, tolerance

from ... import strategies
from ...backends import ACTIVATION_BITS
from ...strategies import Matmul, Random


def check(ops: Ops, arguments: dict[str, Any]) -> mx.array:
    """Run it and hold it against the oracle."""
    y = ops.int4_matmul(**arguments)
    bound = bounds.int4_matmul(arguments, ACTIVATION_BITS.get(ops.name))
    tolerance.check(y, oracle.int4_matmul(**arguments), bound, dtype=arguments["x"].dtype)
    return y


@given(case=strategies.matmuls())
def test_decode_rows(ops: Ops, case: Matmul) -> None:
    check(ops, case.arguments())


@given(case=strategies.matmuls(rows=st.sampled_from(((9,), (17,), (33,), (3, 21), (70,))), max_k=384))
def test_prefill_rows(ops: Ops, case: Matmul) -> None:
    check(ops, case.arguments())


@pytest.mark.parametrize("rows", range(1, 9))
def test_every_number_of_decode_rows(ops: Ops, rows: int) -> None:
    case = Matmul(rows, (rows,), 37, 3, 64, 4, mx.float32, mx.float16, "contiguous", True, True, True, True)
    check(ops, case.arguments())


@pytest.mark.parametrize("bits", (4, 8))
@pytest.mark.parametrize("group_size", (32, 64, 128))
def test_every_packing(ops: Ops, group_size: int, bits: int) -> None:
    for groups in (1, 2, 5):
        case = Matmul(groups, (2,), 13, groups, group_size, bits, mx.float32, mx.float32, "contiguous")
        check(ops, case.arguments())


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize("layout", strategies.VIEWS)
def test_views_of_every_dtype(ops: Ops, dtype: mx.Dtype, layout: str) -> None:
    for rows in ((3,), (2, 10)):
        case = Matmul(7, rows, 19, 2, 64, 4, dtype, dtype, layout, True, False, True, True)
        check(ops, case.arguments())


@pytest.mark.parametrize("rows", (2, 40))
def test_model_sizes(ops: Ops, rows: int) -> None:
    """Several groups a lane, more than one block of outputs: a width as in MusicGen-large."""
    case = Matmul(3, (rows,), 150, 32, 64, 4, mx.float32, mx.float16, "contiguous", True, True, True, True)
    check(ops, case.arguments())


@pytest.mark.parametrize("rows", (2, 8, 20))
def test_rows_are_independent(ops: Ops, rows: int) -> None:
    """What stands in one row cannot reach another: the rows of a guidance pair are two songs."""
    arguments = Matmul(5, (rows,), 33, 4, 64, 4, mx.float32, mx.float32, "contiguous", norm=True).arguments()
    before = np.array(ops.int4_matmul(**arguments))
    arguments["x"] = mx.concatenate([arguments["x"][:-1], mx.full((1, 256), math.nan)])
    after = np.array(ops.int4_matmul(**arguments))
    np.testing.assert_array_equal(after[:-1], before[:-1])
    assert np.isnan(after[-1]).all()


def test_stacked_matrices_equal_single_ones(ops: Ops) -> None:
    r = Random(1)
    x = r.normal(2, 1, 192)
    parts = [r.packed(n, 192, group_size=64, bits=4, dtype=mx.float16) for n in (48, 31, 17)]
    stacked = {name: mx.concatenate([p[name] for p in parts]) for name in ("w", "scales", "biases")}
    whole = ops.int4_matmul(x, **stacked)
    single = mx.concatenate([ops.int4_matmul(x, **p) for p in parts], axis=-1)
    np.testing.assert_allclose(np.array(whole), np.array(single), rtol=1e-5, atol=1e-5)


def test_gelu_is_the_erf_form(ops: Ops) -> None:
    """An identity matrix hands gelu its argument; the tanh form is off by up to 5e-4, ten times what is allowed."""
    k = 32
    q = np.zeros((k, k), dtype=np.uint32)
    np.fill_diagonal(q, 1)
    words = (q.reshape(k, k // 8, 8) << (np.arange(8, dtype=np.uint32) * 4)).sum(-1).astype(np.uint32)
    ones, zeros = mx.ones((k, 1)), mx.zeros((k, 1))
    for x in np.linspace(-6, 6, 8 * k, dtype=np.float32).reshape(8, k):
        y = ops.int4_matmul(mx.array(x)[None], mx.array(words), ones, zeros, group_size=32, bits=4, activation="gelu")
        np.testing.assert_allclose(oracle.float64(y)[0], oracle.gelu(x.astype(np.float64)), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", (1, 12))
def test_large_mean_does_not_spoil_the_norm(ops: Ops, rows: int) -> None:
    """Variance as E[x²] - E[x]² would lose all its digits here."""
    case = Matmul(11, (rows,), 24, 2, 64, 4, mx.float32, mx.float32, "contiguous", norm=True)
    arguments = case.arguments()
    arguments["x"] = arguments["x"] + 300.0
    check(ops, arguments)


@pytest.mark.parametrize("rows", ((1, 20), (3, 4), (2, 1, 35)))
def test_rows_of_several_axes_are_all_computed(ops: Ops, rows: tuple[int, ...]) -> None:
    """More rows than a decode product takes, as a prefill brings them: [clips, positions, features]."""
    case = Matmul(14, rows, 24, 2, 64, 4, mx.float32, mx.float32, "contiguous", norm=True, bias=True, residual=True)
    assert check(ops, case.arguments()).shape == (*rows, 24)


@pytest.mark.parametrize("rows", (2, 20))
def test_nearly_constant_rows(ops: Ops, rows: int) -> None:
    """Where the variance is no more than eps, eps is what divides."""
    arguments = Matmul(12, (rows,), 24, 2, 64, 4, mx.float32, mx.float32, "contiguous", norm=True).arguments()
    arguments["x"] = arguments["x"] * 1e-3
    check(ops, arguments)


@pytest.mark.parametrize("rows", (2, 20))
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_norm_and_bias_of_another_dtype(ops: Ops, rows: int, dtype: mx.Dtype) -> None:
    """The result keeps x's dtype."""
    case = Matmul(13, (rows,), 24, 2, 64, 4, mx.float16, mx.float16, "contiguous", True, False, True, True)
    arguments = case.arguments()
    weight, bias, eps = arguments["norm"]
    arguments |= {"norm": (weight.astype(dtype), bias.astype(mx.float32), eps), "bias": arguments["bias"].astype(dtype)}
    assert check(ops, arguments).dtype == mx.float16


def test_result_can_be_used_lazily(ops: Ops) -> None:
    """No evaluation between calls is needed, and async_eval changes nothing."""
    case = Matmul(2, (2,), 64, 1, 64, 4, mx.float32, mx.float32, "contiguous", residual=True)
    arguments = case.arguments()
    expected = arguments["x"]
    for _ in range(3):
        expected = mx.array(oracle.int4_matmul(**{**arguments, "x": expected}).astype(np.float32))
    x = arguments["x"]
    for _ in range(3):
        x = ops.int4_matmul(**{**arguments, "x": x})
        mx.async_eval(x)
    # three products of 64 terms each, one after the other
    np.testing.assert_allclose(np.array(x), np.array(expected), rtol=1e-3, atol=1e-3)


def test_bad_arguments_say_the_fix(ops: Ops) -> None:
    good = Matmul(1, (2,), 16, 2, 64, 4, mx.float32, mx.float32, "contiguous").arguments()
    faults: list[tuple[dict[str, Any], str]] = [
        ({"bits": 3}, "bits=3.*4 or 8"),
        ({"group_size": 48}, "group_size=48.*32, 64, 128"),
        ({"group_size": 128, "scales": good["scales"][:, :1]}, "biases have shape"),
        ({"x": good["x"][:, :64]}, "last axis of 128"),
        ({"x": good["x"].astype(mx.int32)}, "cast it to"),
        ({"x": good["x"][:0]}, "empty"),
        ({"w": good["w"].astype(mx.int32)}, "uint32"),
        ({"w": good["w"][:, :12]}, "K=96 is not a multiple of group_size=64; pad"),
        ({"scales": good["scales"][:8]}, "scales have shape"),
        ({"scales": good["scales"].astype(mx.float16)}, "cast one of them"),
        ({"bias": mx.zeros((15,))}, r"must be \(16,\)"),
        ({"residual": mx.zeros((2, 15))}, "residual has shape"),
        ({"residual": mx.zeros((2, 16), dtype=mx.float16)}, "cast one of them"),
        ({"activation": "relu"}, 'use None or "gelu"'),
        ({"norm": (mx.ones((64,)), mx.ones((128,)), 1e-5)}, "norm weight has shape"),
    ]
    for change, message in faults:
        with pytest.raises(ValueError, match=message):
            ops.int4_matmul(**{**good, **change})
