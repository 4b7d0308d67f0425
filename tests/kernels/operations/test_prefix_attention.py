"""`prefix_attention` on every backend against the float64 oracle, and the laws of gated prefix attention."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import Ops
from reference import bounds, oracle, tolerance
from reference.oracle import Float64

from ... import strategies
from ...strategies import PrefixAttention

CASE = PrefixAttention(
    seed=3,
    shared=1,
    pairs=2,
    heads=2,
    steps=1,
    slots=40,
    length=29,
    frames=37,
    dim=64,
    gate=0.8,
    dtype=mx.float32,
    layout="contiguous",
)


def bound(arguments: dict[str, Any], length: int) -> Float64:
    return bounds.prefix_attention({**arguments, "length": length})


def check(ops: Ops, case: PrefixAttention) -> mx.array:
    arguments = case.arguments()
    y = ops.prefix_attention(**arguments)
    expected = oracle.prefix_attention(**{**arguments, "length": case.length})
    tolerance.check(y, expected, bound(arguments, case.length), dtype=case.dtype)
    return y


@given(case=strategies.prefix_attentions())
def test_decode(ops: Ops, case: PrefixAttention) -> None:
    check(ops, case)


@given(case=strategies.prefix_attentions(steps=st.sampled_from((2, 5, 33))))
def test_prompted_window(ops: Ops, case: PrefixAttention) -> None:
    check(ops, case)


@pytest.mark.parametrize("dim", range(16, 129, 16))
def test_every_head_dim(ops: Ops, dim: int) -> None:
    check(ops, dataclasses.replace(CASE, dim=dim))
    check(ops, dataclasses.replace(CASE, dim=dim, steps=3))


@pytest.mark.parametrize("dim", (1, 4, 20, 100))
def test_odd_head_dims(ops: Ops, dim: int) -> None:
    check(ops, dataclasses.replace(CASE, dim=dim, heads=1, pairs=1, length=1, frames=1))


@pytest.mark.parametrize(("length", "frames"), ((1, 1), (1, 2048), (2048, 1), (1500, 501), (257, 251)))
def test_long_caches_and_prefixes(ops: Ops, length: int, frames: int) -> None:
    check(ops, dataclasses.replace(CASE, length=length, slots=length + 3, frames=frames, heads=1))


@pytest.mark.parametrize("layout", strategies.VIEWS)
@pytest.mark.parametrize("steps", (1, 4))
def test_views(ops: Ops, layout: str, steps: int) -> None:
    for dtype in strategies.DTYPES:
        check(ops, dataclasses.replace(CASE, layout=layout, steps=steps, dtype=dtype))


@pytest.mark.parametrize("steps", (1, 4))
@pytest.mark.parametrize(
    ("of_keys", "of_values"), (("contiguous", "offset"), ("offset", "strided"), ("strided", "offset"))
)
def test_keys_and_values_that_lie_differently(ops: Ops, of_keys: str, of_values: str, steps: int) -> None:
    """Each is found by strides of its own, the caches' and the prefixes'."""
    arguments = dataclasses.replace(CASE, shared=2, steps=steps).arguments()
    layouts = {"k": of_keys, "v": of_values, "prefix_k": of_values, "prefix_v": of_keys}
    arguments |= {name: strategies.view(arguments[name], layout) for name, layout in layouts.items()}
    y = ops.prefix_attention(**arguments)
    tolerance.check(y, oracle.prefix_attention(**arguments), bound(arguments, CASE.length), dtype=CASE.dtype)


def test_halves_of_one_cache(ops: Ops) -> None:
    check(ops, dataclasses.replace(CASE, combined=True))


@pytest.mark.parametrize("steps", (1, 3))
def test_length_as_int_and_as_array(ops: Ops, steps: int) -> None:
    case = dataclasses.replace(CASE, steps=steps)
    a, b = check(ops, case), check(ops, dataclasses.replace(case, array_length=True))
    np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", (1, 3))
def test_gate_zero_is_plain_attention(ops: Ops, steps: int) -> None:
    """Exactly: not a bit of the result may depend on the prefix."""
    arguments = dataclasses.replace(CASE, steps=steps, gate=0.0).arguments()
    a = np.array(ops.prefix_attention(**arguments))
    other = {name: arguments[name] * -3 + 1 for name in ("prefix_q", "prefix_k", "prefix_v")}
    np.testing.assert_array_equal(np.array(ops.prefix_attention(**{**arguments, **other})), a)
    plain = oracle.attention(
        arguments["q"], arguments["k"][:, :, :29], arguments["v"][:, :, :29], scale=arguments["scale"], mask="causal"
    )
    np.testing.assert_allclose(a, plain, atol=float(bound(arguments, 29).max()))


def test_gate_as_number_and_as_array(ops: Ops) -> None:
    arguments = CASE.arguments()
    expected = np.array(ops.prefix_attention(**arguments))
    for gate in (0.8, mx.array([0.8]), mx.array([[0.8]])):
        y = ops.prefix_attention(**{**arguments, "gate": gate})
        np.testing.assert_allclose(np.array(y), expected, rtol=1e-6, atol=1e-6)


def test_the_gate_keeps_its_digits(ops: Ops) -> None:
    """Beyond those of 16 bits: 1.0004 is 1 in float16."""
    arguments = CASE.arguments()
    closed, one, more = (oracle.float64(ops.prefix_attention(**arguments | {"gate": g})) for g in (0.0, 1.0, 1.0004))
    np.testing.assert_allclose(more - one, 0.0004 * (one - closed), atol=2e-6)
    assert np.abs(0.0004 * (one - closed)).max() > 2e-5


@given(seed=strategies.seeds, frames=st.integers(2, 90), steps=st.sampled_from((1, 3)))
def test_prefix_frames_have_no_order(ops: Ops, seed: int, frames: int, steps: int) -> None:
    case = dataclasses.replace(CASE, seed=seed, frames=frames, steps=steps)
    arguments = case.arguments()
    order = mx.array(np.random.default_rng(seed).permutation(frames))
    permuted = {name: arguments[name][:, :, order] for name in ("prefix_k", "prefix_v")}
    a, b = ops.prefix_attention(**arguments), ops.prefix_attention(**{**arguments, **permuted})
    assert (np.abs(oracle.float64(a) - oracle.float64(b)) <= 2 * bound(arguments, case.length)).all()


@pytest.mark.parametrize("steps", (1, 3))
@pytest.mark.parametrize("shared", (1, 2))
def test_guidance_rows_are_independent(ops: Ops, steps: int, shared: int) -> None:
    """Changing one row of a pair leaves the others as they are, to the bit; rows meet only in the prefix they read."""
    arguments = dataclasses.replace(CASE, steps=steps, shared=shared).arguments()
    before = np.array(ops.prefix_attention(**arguments))
    last = mx.arange(2 * shared).reshape(-1, 1, 1, 1) == 2 * shared - 1
    changed = {name: mx.where(last, mx.array(math.nan), arguments[name]) for name in ("q", "k", "v")}
    after = np.array(ops.prefix_attention(**{**arguments, **changed}))
    np.testing.assert_array_equal(after[:-1], before[:-1])
    assert np.isnan(after[-1]).all()


def test_row_b_uses_prefix_row_b_mod_shared(ops: Ops) -> None:
    """With all of the output coming from the prefix, the prefix row can be read off."""
    arguments = dataclasses.replace(CASE, shared=2, pairs=2, gate=1.0).arguments()
    arguments["v"] = mx.zeros_like(arguments["v"])
    row = mx.arange(2).reshape(-1, 1, 1, 1).astype(mx.float32)
    arguments["prefix_v"] = mx.broadcast_to(row + 1, arguments["prefix_v"].shape)
    y = np.array(ops.prefix_attention(**arguments))
    np.testing.assert_allclose(y[:, 0, 0, 0], [1, 2, 1, 2], rtol=1e-5)


@pytest.mark.parametrize("array_length", (False, True))
@pytest.mark.parametrize("steps", (2, 6))
def test_queries_do_not_see_later_keys(ops: Ops, steps: int, array_length: bool) -> None:
    """A change of the key and value at one position changes the queries from that position on, and no earlier one."""
    case = dataclasses.replace(CASE, steps=steps, array_length=array_length)
    arguments = case.arguments()
    before = np.array(ops.prefix_attention(**arguments))
    for t in range(steps):
        here = mx.arange(case.slots)[:, None] == case.length - steps + t
        changed = {name: mx.where(here, arguments[name] + 5, arguments[name]) for name in ("k", "v")}
        after = np.array(ops.prefix_attention(**{**arguments, **changed}))
        np.testing.assert_array_equal(after[:, :, :t], before[:, :, :t])
        assert (after[:, :, t:] != before[:, :, t:]).any(axis=-1).all()


@pytest.mark.parametrize("steps", (1, 3))
def test_scores_far_apart(ops: Ops, steps: int) -> None:
    """Scores of ±1000 must neither overflow nor lose the keys that come after the largest."""
    arguments = dataclasses.replace(CASE, steps=steps).arguments()
    for name in ("q", "prefix_q"):
        arguments[name] = arguments[name] * 40
    y = ops.prefix_attention(**arguments)
    tolerance.check(y, oracle.prefix_attention(**arguments), bound(arguments, 29), dtype=mx.float32)


def tallest_anywhere(ops: Ops, steps: int, keys: int = 70) -> None:
    """In head h key h, and frame h of the prefix, have a score 300 above all others: the result is their values.

    Whichever of a kernel's parts has it, the others' sums must be taken down to it, and it must not overflow.
    """
    rng = np.random.default_rng(7)
    v, prefix_v = (mx.array(rng.normal(size=(1, keys, keys, 16)).astype(np.float32)) for _ in range(2))
    tall = np.zeros((1, keys, keys, 16), dtype=np.float32)
    tall[0, np.arange(keys), np.arange(keys), 0] = 30
    q = mx.concatenate([mx.full((1, keys, steps, 1), 10.0), mx.zeros((1, keys, steps, 15))], axis=-1)
    k = mx.array(tall)
    y = ops.prefix_attention(q, k, v, mx.zeros_like(q), k, prefix_v, 0.5, scale=1.0, length=keys)
    expected = np.array(v + 0.5 * prefix_v)[0, np.arange(keys), np.arange(keys)]
    seen = np.arange(keys) <= keys - steps  # keys that the first query sees
    np.testing.assert_allclose(np.array(y)[0, :, -1], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.array(y)[0, seen, 0], expected[seen], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", (1, 3))
def test_the_largest_score_may_stand_anywhere(ops: Ops, steps: int) -> None:
    tallest_anywhere(ops, steps)


def all_below(ops: Ops, case: PrefixAttention) -> None:
    """Every score is hundreds below 0."""
    arguments = case.arguments()
    for name in ("q", "prefix_q"):
        arguments[name] = mx.abs(arguments[name]) * 100
    for name in ("k", "prefix_k"):
        arguments[name] = -mx.abs(arguments[name])
    y = ops.prefix_attention(**arguments)
    tolerance.check(y, oracle.prefix_attention(**arguments), bound(arguments, case.length), dtype=case.dtype)


@pytest.mark.parametrize("steps", (1, 3))
def test_scores_far_below_zero(ops: Ops, steps: int) -> None:
    """A running maximum that starts at 0 would leave 0 / 0."""
    all_below(ops, dataclasses.replace(CASE, steps=steps))


def test_bad_arguments_say_the_fix(ops: Ops) -> None:
    good = dataclasses.replace(CASE, steps=2).arguments()
    faults: list[tuple[dict[str, Any], str]] = [
        ({"length": 41}, "length=41 is beyond the cache's 40 slots"),
        ({"length": 1}, "length=1 is less than the 2 queries"),
        ({"length": mx.array([3, 4])}, "array of one element"),
        ({"length": mx.array([3.0])}, "cast it to int32"),
        ({"q": good["q"][0]}, "q has shape"),
        ({"k": good["k"][:1], "v": good["v"][:1]}, "k has shape"),
        ({"v": good["v"][:, :, :5]}, "they must be equal"),
        ({"prefix_q": mx.zeros((3, 2, 2, 64))}, "do not divide"),
        ({"prefix_q": good["prefix_q"][:, :, :1]}, "prefix_q has shape"),
        ({"prefix_v": good["prefix_v"][:, :, :5]}, "prefix_v has shape"),
        ({"gate": mx.ones((2,))}, "scalar"),
        ({"q": good["q"].astype(mx.int32)}, "cast it to"),
    ]
    for change, message in faults:
        with pytest.raises(ValueError, match=message):
            ops.prefix_attention(**{**good, **change})


@pytest.mark.parametrize("length", (0, 1, -3))
def test_a_length_array_below_the_queries_is_an_error_and_never_nan(ops: Ops, length: int) -> None:
    """At the call, or where a backend reads the array as the operation runs, by the evaluation."""
    good = dataclasses.replace(CASE, steps=2).arguments()
    with pytest.raises((ValueError, RuntimeError), match=f"length={length} .* 2 queries"):
        mx.eval(ops.prefix_attention(**{**good, "length": mx.array([length], dtype=mx.int32)}))
