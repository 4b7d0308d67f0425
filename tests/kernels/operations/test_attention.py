"""Plain `attention` on every backend against the float64 oracle."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels import Ops
from reference import bounds, oracle, tolerance

from ... import strategies
from ...strategies import Random


@given(
    seed=strategies.seeds,
    rows=st.integers(1, 2),
    heads=st.integers(1, 3),
    steps=st.sampled_from((1, 4, 37)),
    extra=st.sampled_from((0, 1, 50)),
    dim=strategies.head_dims,
    dtype=strategies.dtypes,
    layout=strategies.views,
    mask=st.sampled_from((None, "causal", "additive")),
)
def test_attention(
    ops: Ops,
    seed: int,
    rows: int,
    heads: int,
    steps: int,
    extra: int,
    dim: int,
    dtype: mx.Dtype,
    layout: str,
    mask: str | None,
) -> None:
    r = Random(seed)
    keys = steps + extra
    q = r.normal(rows, heads, steps, dim, dtype=dtype, layout=layout)
    k, v = (r.normal(rows, heads, keys, dim, dtype=dtype, layout=layout) for _ in range(2))
    given_mask = r.normal(1, heads, steps, keys, dtype=dtype) if mask == "additive" else mask
    y = ops.attention(q, k, v, scale=dim**-0.5, mask=given_mask)
    expected = oracle.attention(q, k, v, scale=dim**-0.5, mask=given_mask)
    bound = bounds.attention({"q": q, "k": k, "v": v, "scale": dim**-0.5, "mask": given_mask})
    tolerance.check(y, expected, bound, dtype=dtype)


def test_masked_keys_do_not_count(ops: Ops) -> None:
    """T5 masks its padding with large negative numbers."""
    r = Random(1)
    q, k, v = (r.normal(1, 2, 6, 32) for _ in range(3))
    mask = mx.where(mx.arange(6) < 4, 0.0, -1e9).reshape(1, 1, 1, 6)
    y = ops.attention(q, k, v, scale=1.0, mask=mask)
    short = ops.attention(q, k[:, :, :4], v[:, :, :4], scale=1.0)
    np.testing.assert_allclose(np.array(y), np.array(short), rtol=1e-5, atol=1e-5)
