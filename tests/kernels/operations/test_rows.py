"""A row's result does not depend on the rows beside it, to the bit, in what runs on a whole batch at once.

Up to 16 rows of one position each, as decode steps have them: what has many positions the model runs row by row. Held
by `native` and `reference`; a GPU's kernels may sum in another order for other numbers of rows.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import Ops
from reference.contract import Packed

from ... import backends, strategies
from ...strategies import Random

MOST = 16


@pytest.fixture(scope="module", params=[name for name in ("reference", "native") if name in backends.names()])
def exact(request: pytest.FixtureRequest) -> Ops:
    return backends.load(request.param)


def same(got: mx.array, want: list[mx.array]) -> None:
    np.testing.assert_array_equal(
        np.array(got.astype(mx.float32)), np.array(mx.concatenate(want).astype(mx.float32)), strict=True
    )


def pairs(whole: mx.array, clip: int) -> mx.array:
    """The two rows of a clip in a guided batch: its conditional one, and the one as many rows further down."""
    return mx.concatenate([whole[clip : clip + 1], whole[whole.shape[0] // 2 + clip :][:1]])


@given(
    seed=strategies.seeds, rows=st.integers(2, MOST), n=st.integers(1, 130), bits=strategies.bits,
    k=st.sampled_from([64, 128, 192, 512, 1024, 1088, 2048]), group_size=st.sampled_from([32, 64]),
    dtype=strategies.dtypes, extras=st.booleans(), laid_out=st.booleans(),
)  # fmt: skip
def test_packed_products(
    exact: Ops, seed: int, rows: int, n: int, bits: int, k: int, group_size: int, dtype: mx.Dtype, extras: bool,
    laid_out: bool,
) -> None:  # fmt: skip
    """In the layout of `mx.quantize`, and in the backend's own."""
    r = Random(seed)
    x, packed = r.normal(rows, 1, k, dtype=dtype), r.packed(n, k, group_size=group_size, bits=bits, dtype=dtype)
    residual = r.normal(rows, 1, n, dtype=dtype)
    norm = (r.normal(k, mean=1.0, std=0.2), r.normal(k, std=0.2), 1e-5) if extras else None
    if laid_out:
        packed = {"w": exact.pack(Packed(**packed))}

    def run(part: slice) -> mx.array:
        fused = {"norm": norm, "activation": "gelu", "residual": residual[part]} if extras else {}
        return exact.int4_matmul(x[part], **packed, **fused)

    same(run(slice(None)), [run(slice(i, i + 1)) for i in range(rows)])


@given(
    seed=strategies.seeds, rows=st.integers(2, MOST), n=st.integers(1, 130), k=st.integers(1, 1100),
    dtype=strategies.dtypes, norm=st.booleans(),
)  # fmt: skip
def test_dense_products(exact: Ops, seed: int, rows: int, n: int, k: int, dtype: mx.Dtype, norm: bool) -> None:
    r = Random(seed)
    x, w = r.normal(rows, 1, k, dtype=dtype), r.normal(n, k, dtype=dtype, std=k**-0.5)
    fused = {"norm": (r.normal(k, mean=1.0, std=0.2), r.normal(k, std=0.2), 1e-5)} if norm else {}
    same(exact.linear(x, w, **fused), [exact.linear(x[i : i + 1], w, **fused) for i in range(rows)])


@given(
    seed=strategies.seeds, clips=st.integers(2, MOST // 2), heads=st.integers(1, 3), dim=strategies.head_dims,
    length=st.integers(1, 80), spare=st.integers(0, 9), frames=st.integers(1, 70), dtype=strategies.dtypes,
)  # fmt: skip
def test_prefix_attention_of_guided_clips(
    exact: Ops, seed: int, clips: int, heads: int, dim: int, length: int, spare: int, frames: int, dtype: mx.Dtype
) -> None:
    r = Random(seed)
    q = r.normal(2 * clips, heads, 1, dim, dtype=dtype)
    k, v = (r.normal(2 * clips, heads, length + spare, dim, dtype=dtype) for _ in range(2))
    prefix = [r.normal(clips, heads, n, dim, dtype=dtype) for n in (1, frames, frames)]
    gate = mx.array([0.7])
    whole = exact.prefix_attention(q, k, v, *prefix, gate, scale=dim**-0.5, length=length)
    for i in range(clips):
        own = [part[i : i + 1] for part in prefix]
        alone = exact.prefix_attention(
            pairs(q, i), pairs(k, i), pairs(v, i), *own, gate, scale=dim**-0.5, length=length
        )
        same(pairs(whole, i), [alone])


@given(
    seed=strategies.seeds, clips=st.integers(2, MOST // 2), heads=st.integers(1, 3), dim=st.sampled_from([16, 32, 64]),
    keys=st.integers(1, 40), k=st.sampled_from([64, 128, 1024]), bits=strategies.bits,
)  # fmt: skip
def test_cross_attention_of_guided_clips(
    exact: Ops, seed: int, clips: int, heads: int, dim: int, keys: int, k: int, bits: int
) -> None:
    r = Random(seed)
    x, packed = r.normal(2 * clips, 1, k), r.packed(heads * dim, k, group_size=64, bits=bits, dtype=mx.float16)
    text = [r.normal(clips, heads, keys, dim) for _ in range(2)]
    whole = exact.cross_attention(x, **packed, k=text[0], v=text[1], scale=dim**-0.5)
    for i in range(clips):
        own = [part[i : i + 1] for part in text]
        alone = exact.cross_attention(pairs(x, i), **packed, k=own[0], v=own[1], scale=dim**-0.5)
        same(pairs(whole, i), [alone])


@given(seed=strategies.seeds, rows=st.integers(2, MOST), frames=st.integers(1, 40), size=st.integers(1, 70))
def test_lstms(exact: Ops, seed: int, rows: int, frames: int, size: int) -> None:
    r = Random(seed)
    x, state = r.normal(rows, frames, size), r.normal(2, rows, size, std=0.5)
    maps = [r.normal(4 * size, size, std=0.7 * size**-0.5) for _ in range(2)]
    bias = r.normal(4 * size, std=0.3)
    y, after = exact.lstm(x, *maps, bias, state)
    alone = [exact.lstm(x[i : i + 1], *maps, bias, state[:, i : i + 1]) for i in range(rows)]
    same(y, [own for own, _ in alone])
    same(after.swapaxes(0, 1), [left.swapaxes(0, 1) for _, left in alone])
