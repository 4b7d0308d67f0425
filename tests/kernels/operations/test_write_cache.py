"""The cache of keys and values: what is written stands at its place, rounded to the cache's dtype."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.contract import Ops
from tests import strategies

FLOATS = st.sampled_from(strategies.DTYPES)


def _numbers(shape: tuple[int, ...], dtype: mx.Dtype, seed: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(size=shape).astype(np.float32)).astype(dtype)


def _wide(a: mx.array) -> np.ndarray:
    return np.array(a.astype(mx.float32))


@given(data=st.data(), kept=FLOATS, given_dtype=FLOATS, seed=st.integers(0, 99))
def test_what_is_written_stands_at_its_place(
    ops: Ops, data: st.DataObject, kept: mx.Dtype, given_dtype: mx.Dtype, seed: int
) -> None:
    batch, heads, dim = (data.draw(st.integers(1, high)) for high in (4, 3, 300))
    slots = data.draw(st.integers(1, 9))
    steps = data.draw(st.integers(1, slots))
    position = data.draw(st.integers(0, slots - steps))
    first, step = data.draw(st.integers(0, batch - 1)), data.draw(st.integers(1, 3))
    rows = data.draw(st.sampled_from([slice(None), slice(first, None, step), slice(first, first + 1)]))
    cache = _numbers((2, batch, heads, slots, dim), kept, seed)
    # As the model gives it: the parts of one product side by side.
    chosen = len(range(batch)[rows])
    kv = _numbers((chosen, steps, 2, heads, dim), given_dtype, seed + 1).transpose(2, 0, 3, 1, 4)
    expected, before = _wide(cache), _wide(cache)
    expected[:, rows, :, position : position + steps] = _wide(kv.astype(kept))
    got = ops.write_cache(cache + 0, kv, position, rows)
    assert got.dtype == kept
    np.testing.assert_array_equal(_wide(got), expected)
    np.testing.assert_array_equal(_wide(cache), before)


def test_a_cache_that_others_hold_stays_as_it_was(ops: Ops) -> None:
    cache = mx.zeros((2, 1, 2, 4, 8), dtype=mx.float16)
    held = cache[:, :, :, :2]
    after = ops.write_cache(cache * 1, mx.ones((2, 1, 2, 1, 8)), 1)
    again = ops.write_cache(after * 1, mx.ones((2, 1, 2, 1, 8)) * 2, 2)
    mx.eval(held, after, again)
    assert _wide(held).sum() == 0
    assert _wide(after).sum() == 32
    assert _wide(again).sum() == 32 + 64


def test_a_strided_cache_is_copied_whole(ops: Ops) -> None:
    cache = _numbers((2, 2, 3, 4, 8), mx.float16, 3).transpose(0, 1, 2, 4, 3)
    expected = _wide(cache)
    expected[:, :, :, 5] = 7
    got = ops.write_cache(cache, mx.full((2, 2, 3, 1, 4), 7.0), 5)
    np.testing.assert_array_equal(_wide(got), expected)


@pytest.mark.parametrize(
    ("kv", "position", "rows", "message"),
    [
        ((2, 2, 3, 1, 8), 5, slice(None), "position=5 and 1 more do not fit the cache's 5 slots"),
        ((2, 2, 3, 1, 8), -1, slice(None), "position=-1"),
        ((2, 1, 3, 1, 8), 0, slice(None), r"kv has shape \(2, 1, 3, 1, 8\)"),
        ((2, 2, 3, 1, 7), 0, slice(None), "kv has shape"),
        ((2, 3, 1, 8), 0, slice(None), r"kv has shape \(2, 3, 1, 8\); it must be a non-empty"),
        ((2, 2, 3, 1, 8), 0, slice(None, None, -1), "count backwards"),
    ],
)
def test_what_does_not_fit_is_refused(ops: Ops, kv: tuple[int, ...], position: int, rows: slice, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.write_cache(mx.zeros((2, 2, 3, 5, 8)), mx.zeros(kv), position, rows)
    with pytest.raises(ValueError, match="kv is"):
        ops.write_cache(mx.zeros((2, 2, 3, 5, 8)), mx.zeros((2, 2, 3, 1, 8), dtype=mx.int32), 0)
