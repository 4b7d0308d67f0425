"""`linear` (dense weights) on every backend against the float64 oracle."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import Ops
from reference import bounds, oracle, tolerance

from ... import strategies
from ...strategies import Random


def check(ops: Ops, x: mx.array, w: mx.array, **epilogue: Any) -> None:
    y = ops.linear(x, w, **epilogue)
    bound = bounds.linear({"x": x, "w": w, **epilogue})
    tolerance.check(y, oracle.linear(x, w, **epilogue), bound, dtype=x.dtype)


@given(
    seed=strategies.seeds,
    rows=st.sampled_from(((), (1,), (2, 1), (3, 5), (70,))),
    k=st.integers(1, 200),
    n=st.integers(1, 90),
    dtype=strategies.dtypes,
    w_dtype=strategies.dtypes,
    layout=strategies.views,
    parts=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)
def test_linear(
    ops: Ops,
    seed: int,
    rows: tuple[int, ...],
    k: int,
    n: int,
    dtype: mx.Dtype,
    w_dtype: mx.Dtype,
    layout: str,
    parts: tuple[bool, bool, bool, bool],
) -> None:
    r = Random(seed)
    x = r.normal(*rows, k, dtype=dtype, layout=layout)
    w = r.normal(n, k, dtype=w_dtype, std=k**-0.5, layout=layout)
    epilogue: dict[str, Any] = {}
    if parts[0]:
        epilogue["bias"] = r.normal(n, dtype=dtype, layout=layout)
    if parts[1]:
        epilogue["activation"] = "gelu"
    if parts[2]:
        epilogue["residual"] = r.normal(*rows, n, dtype=dtype, layout=layout)
    if parts[3] and k > 1:
        weight, bias = r.normal(k, dtype=dtype, mean=1.0, std=0.2), r.normal(k, dtype=dtype, std=0.2)
        epilogue["norm"] = (weight, bias, 1e-5)
    check(ops, x, w, **epilogue)


def test_four_heads_at_once(ops: Ops) -> None:
    """The output heads of a decode step: two rows, four codebooks stacked."""
    r = Random(4)
    check(ops, r.normal(2, 1, 256), r.normal(4 * 65, 256, dtype=mx.float16, std=1 / 16))


def test_bad_arguments_say_the_fix(ops: Ops) -> None:
    x, w = mx.ones((2, 8)), mx.ones((4, 8))
    faults: list[tuple[dict[str, Any], str]] = [
        ({"x": x[:, :7]}, "last axis of 8"),
        ({"w": w[None]}, r"must be \[N, K\]"),
        ({"w": w.astype(mx.int32)}, "cast it to"),
        ({"bias": mx.ones((5,))}, r"must be \(4,\)"),
        ({"residual": mx.ones((2, 5))}, "residual has shape"),
        ({"activation": "tanh"}, 'use None or "gelu"'),
    ]
    for change, message in faults:
        with pytest.raises(ValueError, match=message):
            ops.linear(**{"x": x, "w": w, **change})


def test_a_model_may_be_packed_as_every_backend_takes_it() -> None:
    from model import config
    from reference import arguments

    assert (config.PACKED_BITS, config.GROUP_SIZES) == (arguments.BITS, arguments.GROUP_SIZES)
