"""`cross_attention` (query projection and attention to the text) on every backend against the float64 oracle."""

from __future__ import annotations

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
from ...strategies import Random


def arguments(
    seed: int,
    *,
    rows: int,
    text_rows: int,
    steps: int,
    heads: int,
    dim: int,
    keys: int,
    groups: int = 2,
    group_size: int = 32,
    bits: int = 4,
    dtype: mx.Dtype = mx.float32,
    layout: str = "contiguous",
    norm: bool = True,
) -> dict[str, Any]:
    r = Random(seed)
    k = groups * group_size
    out: dict[str, Any] = {"x": r.normal(rows, steps, k, dtype=dtype, mean=0.3, layout=layout)}
    out |= r.packed(heads * dim, k, group_size=group_size, bits=bits, dtype=dtype, layout=layout)
    out |= {name: r.normal(text_rows, heads, keys, dim, dtype=dtype, layout=layout) for name in ("k", "v")}
    if norm:
        weight, bias = r.normal(k, dtype=dtype, mean=1.0, std=0.2), r.normal(k, dtype=dtype, std=0.2)
        out["norm"] = (weight, bias, 1e-5)
    return {**out, "scale": dim**-0.5}


def check(ops: Ops, a: dict[str, Any]) -> None:
    y = ops.cross_attention(**a)
    bound = bounds.cross_attention(a, ACTIVATION_BITS.get(ops.name))
    tolerance.check(y, oracle.cross_attention(**a), bound, dtype=a["x"].dtype)
    assert (oracle.float64(y[a["k"].shape[0] :]) == 0).all(), "rows without text must be exactly 0"


@given(
    seed=strategies.seeds,
    rows=st.integers(1, 4),
    data=st.data(),
    steps=st.sampled_from((1, 1, 1, 2, 11)),
    heads=st.integers(1, 3),
    dim=strategies.head_dims,
    keys=st.integers(1, 40),
    groups=st.integers(1, 5),
    group_size=strategies.group_sizes,
    bits=strategies.bits,
    dtype=strategies.dtypes,
    layout=strategies.views,
    norm=st.booleans(),
)
def test_cross_attention(ops: Ops, data: st.DataObject, rows: int, **case: Any) -> None:
    check(ops, arguments(rows=rows, text_rows=data.draw(st.integers(1, rows)), **case))


@pytest.mark.parametrize("keys", (1, 33, 300))
def test_text_lengths(ops: Ops, keys: int) -> None:
    check(ops, arguments(1, rows=2, text_rows=1, steps=1, heads=2, dim=64, keys=keys, groups=4))


def test_rows_without_text_are_not_even_read(ops: Ops) -> None:
    """The unconditional row adds exactly 0 whatever it holds, and cannot disturb the other."""
    a = arguments(2, rows=2, text_rows=1, steps=1, heads=2, dim=32, keys=9)
    before = oracle.float64(ops.cross_attention(**a))
    a["x"] = mx.concatenate([a["x"][:1], mx.full(a["x"][1:].shape, float("nan"))])
    np.testing.assert_array_equal(oracle.float64(ops.cross_attention(**a)), before)
    assert (before[1] == 0).all()


def test_bad_arguments_say_the_fix(ops: Ops) -> None:
    good = arguments(3, rows=2, text_rows=1, steps=1, heads=2, dim=32, keys=9)
    faults: list[tuple[dict[str, Any], str]] = [
        ({"x": good["x"][0]}, r"must be \[B,T,K\]"),
        ({"k": good["k"][:, :, :3]}, "they must be equal"),
        ({"k": good["k"][:, :1], "v": good["v"][:, :1]}, "w makes 64 features"),
        ({"x": good["x"][:1], "k": mx.zeros((2, 2, 9, 32)), "v": mx.zeros((2, 2, 9, 32))}, "k has 2 rows"),
    ]
    for change, message in faults:
        with pytest.raises(ValueError, match=message):
            ops.cross_attention(**{**good, **change})
