"""A layer's self-attention as one operation, on every backend: the oracle's, and what its parts give."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import Ops
from reference import bounds, oracle, tolerance
from reference.contract import Prefix
from reference.self_attention import composed

from ... import strategies
from ...strategies import Random


def draw_arguments(data: st.DataObject, ops: Ops) -> dict[str, Any]:
    """One to a few positions of some rows; slots that are not in use hold NaN."""
    r = Random(data.draw(strategies.seeds))
    dtype, kept = data.draw(strategies.dtypes), data.draw(strategies.dtypes)
    heads, dim = data.draw(st.integers(1, 3)), data.draw(strategies.head_dims)
    shared, pairs = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    steps, before, after = (
        data.draw(st.sampled_from((1, 1, 2, 13))),
        data.draw(st.integers(0, 40)),
        data.draw(st.integers(0, 3)),
    )
    rows, batch = data.draw(st.sampled_from([(slice(None), shared * pairs), (slice(1, None, 2), 2 * shared * pairs)]))
    cache = r.normal(2, batch, heads, before + steps + after, dim, dtype=kept)
    used = mx.arange(cache.shape[3])[:, None] < before
    prefix, row = None, data.draw(st.integers(0, 3))
    if data.draw(st.booleans()):
        q, kv = (shared, heads, row + steps + 1, dim), (shared, heads, data.draw(st.integers(1, 50)), dim)
        gate = data.draw(st.sampled_from([0.0, -0.7, mx.array([1.3])]))
        prefix = Prefix(r.normal(*q, dtype=dtype), r.normal(*kv, dtype=kept), r.normal(*kv, dtype=kept), gate)
    return {
        "qkv": r.normal(shared * pairs, steps, 3 * heads * dim, dtype=dtype),
        "cache": mx.where(used, cache, mx.array(float("nan"), dtype=kept)), "position": before, "prefix": prefix,
        "scale": dim**-0.5, "rows": rows, "query_row": row,
    }  # fmt: skip


@given(data=st.data())
def test_it_is_the_oracles(ops: Ops, data: st.DataObject) -> None:
    arguments = draw_arguments(data, ops)
    out, cache = oracle.self_attention(**arguments)
    bound = bounds.self_attention(arguments)
    got, after = ops.self_attention(**{**arguments, "cache": arguments["cache"] + 0})
    tolerance.check(got, out, bound, dtype=arguments["qkv"].dtype)
    assert after.dtype == arguments["cache"].dtype
    np.testing.assert_array_equal(oracle.float64(after), cache)


@pytest.mark.backend("native")
@given(data=st.data())
def test_native_gives_the_bits_of_its_parts(data: st.DataObject) -> None:
    import kernels.native as native

    arguments = draw_arguments(data, native)
    one, parts = native.self_attention(**arguments), composed(native, **{**arguments, "cache": arguments["cache"] + 0})
    for mine, theirs in zip(one, parts):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(oracle.float64(mine), oracle.float64(theirs))


def _call(ops: Ops, cache: mx.array, position: int = 1) -> tuple[mx.array, mx.array]:
    return ops.self_attention(mx.ones((1, 1, 3 * 2 * 8)), cache, position, scale=1.0)


def test_a_cache_that_others_hold_stays_as_it_was(ops: Ops) -> None:
    cache = mx.zeros((2, 1, 2, 4, 8))
    held = cache[:, :, :, :2]
    out, after = _call(ops, cache * 1)
    _, again = _call(ops, after * 1, 2)
    mx.eval(held, out, after, again)
    assert [float(mx.sum(each).item()) for each in (held, after, again)] == [0, 32, 64]


@pytest.mark.backend("native")
def test_native_writes_in_place_where_nothing_else_holds_the_cache() -> None:
    import kernels.native as native

    cache = mx.zeros((2, 1, 2, 4, 8))
    mx.eval(cache)
    for position in range(3):
        before = np.array(cache, copy=False).ctypes.data
        out, cache = _call(native, cache, position)
        if position == 1:
            mx.eval(cache)  # either output may be asked for
        mx.eval(out)
        assert np.array(cache, copy=False).ctypes.data == before
    held = cache
    out, cache = _call(native, cache, 3)
    mx.eval(out, cache)
    assert np.array(cache, copy=False).ctypes.data != np.array(held, copy=False).ctypes.data
    assert float(mx.sum(held[:, :, :, 3]).item()) == 0


@pytest.mark.backend("native")
def test_native_gives_the_same_bits_on_any_number_of_threads() -> None:
    import kernels.native as native

    r = Random(4)
    prefix = Prefix(*(r.normal(2, 5, n, 64) for n in (3, 77, 77)), mx.array([0.6]))
    qkv, cache = r.normal(4, 1, 3 * 5 * 64), r.normal(2, 4, 5, 60, 64)
    found = []
    try:
        for threads in (1, 2, 3, 7):
            native.set_threads(threads)
            found.append([np.array(a) for a in native.self_attention(qkv, cache, 41, prefix, scale=0.125)])
    finally:
        native.set_threads(None)
    for out, after in found[1:]:
        np.testing.assert_array_equal(out, found[0][0])
        np.testing.assert_array_equal(after, found[0][1])


def test_what_is_no_number_stays_in_its_row(ops: Ops) -> None:
    """NaN and infinity among a row's new values, and tiny or huge ones elsewhere."""
    r = Random(8)
    cache, qkv = r.normal(2, 3, 2, 9, 16), np.array(r.normal(3, 1, 3 * 2 * 16))
    qkv[1, 0, -1], qkv[0, 0, 40], qkv[2] = np.nan, 1e-41, 1e-30
    sound = np.where(np.isnan(qkv), 0, qkv)
    got, after = ops.self_attention(mx.array(qkv), cache + 0, 5, scale=0.25)
    want, _ = ops.self_attention(mx.array(sound), cache + 0, 5, scale=0.25)
    out, right = np.array(got), np.array(want)
    assert np.isnan(out[1, 0, -1]) and np.isnan(np.array(after)[1, 1, 1, 5, -1])
    np.testing.assert_array_equal(out[[0, 2]], right[[0, 2]])
    np.testing.assert_array_equal(out[1, 0, :16], right[1, 0, :16])  # the other head


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qkv": mx.zeros((2, 1, 47))}, r"qkv has shape \(2, 1, 47\); the cache's 2 heads of 8 need \[b,T,48\]"),
        ({"qkv": mx.zeros((1, 1, 48))}, "kv has shape"),
        ({"qkv": mx.zeros((2, 48))}, "must be a non-empty"),
        ({"qkv": mx.zeros((2, 1, 48), dtype=mx.int32)}, "int32; cast it to float16"),
        ({"cache": mx.zeros((3, 2, 2, 5, 8))}, "cache has shape"),
        ({"position": 5}, "position=5 and 1 more do not fit the cache's 5 slots"),
        ({"position": -1}, "position=-1"),
        ({"query_row": 4}, "query_row=4 and 1 queries do not fit prefix_q"),
        ({"query_row": -1}, "query_row=-1"),
        ({"rows": slice(None, None, -1)}, "count backwards"),
        ({"prefix": Prefix(*(mx.zeros((2, 2, 4, 8)) for _ in range(2)), mx.zeros((2, 2, 3, 8)), 1.0)}, "prefix_v has"),
        ({"prefix": Prefix(*(mx.zeros((2, 2, 4, 8)) for _ in range(3)), mx.zeros(2))}, "gate has shape"),
    ],
)
def test_what_does_not_fit_is_refused(ops: Ops, change: dict[str, Any], message: str) -> None:
    prefix = Prefix(*(mx.zeros((2, 2, 4, 8)) for _ in range(3)), 0.5)
    sound = {"qkv": mx.zeros((2, 1, 48)), "cache": mx.zeros((2, 2, 2, 5, 8)), "position": 2, "prefix": prefix}
    mx.eval(ops.self_attention(**sound, scale=1.0))
    with pytest.raises(ValueError, match=message):
        ops.self_attention(**{**sound, **change}, scale=1.0)
