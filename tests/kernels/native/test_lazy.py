"""Native operations among MLX's own: graphs, compiled functions, streams, views, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import kernels
import reference

from .conftest import Packed, relative_error

pytestmark = pytest.mark.backend("native")


def heads(rng: np.random.Generator, *shape: int) -> mx.array:
    return mx.array(rng.normal(size=shape).astype(np.float32))


def test_nothing_runs_before_it_is_evaluated(native: ModuleType, rng: np.random.Generator) -> None:
    """A length that can only be refused when it is read is refused by the evaluation, not by the call."""
    q = heads(rng, 1, 2, 1, 8)
    k = heads(rng, 1, 2, 4, 8)
    late = native.prefix_attention(q, k, k, q, k, k, 0.5, scale=1.0, length=mx.array(5))
    with pytest.raises((ValueError, RuntimeError), match="length=5 does not fit 1 queries and a cache of 4 slots"):
        mx.eval(late)
    mx.eval(native.prefix_attention(q, k, k, q, k, k, 0.5, scale=1.0, length=mx.array(4)))  # and the stream lives on


def refused_many_times() -> None:
    """Have 200 evaluations of lengths refused, known and computed ones, then evaluate graphs of many operations."""
    native, rng = kernels.load("native"), np.random.default_rng(0)
    q, k = heads(rng, 1, 2, 1, 8), heads(rng, 1, 2, 4, 8)
    for n in range(200):
        before = mx.exp(q) * 2
        length = mx.array(5) if n % 2 else mx.argmax(mx.arange(6) + 0 * n).astype(mx.int32)
        y = native.prefix_attention(before, k, k, q, k, k, 0.5, scale=1.0, length=length)
        for _ in range(n % 30):
            y = mx.exp(y * 0.1)
        with pytest.raises((ValueError, RuntimeError), match="length=5 does not fit"):
            mx.eval(y)
        assert np.array(before).shape == q.shape  # what came before the refusal can still be had
    for _ in range(200):
        y = q
        for _ in range(150):
            y = native.prefix_attention(y, k, k, q, k, k, 0.5, scale=1.0, length=4)
        mx.eval(y)


def impossible_length() -> None:
    """Evaluate an operation whose length MLX cannot compute."""
    native, rng = kernels.load("native"), np.random.default_rng(0)
    q, k = heads(rng, 1, 2, 1, 8), heads(rng, 1, 2, 4, 8)
    length = mx.linalg.inv(mx.zeros((3, 3)), stream=mx.cpu).sum().astype(mx.int32)
    with pytest.raises(RuntimeError, match="factorization failed"):
        mx.eval(native.prefix_attention(q, k, k, q, k, k, 0.5, scale=1.0, length=length))


@pytest.mark.slow
@pytest.mark.parametrize("errors", (refused_many_times, impossible_length))
def test_evaluations_that_fail_end(native: ModuleType, errors: Callable[[], None]) -> None:
    """And nothing is left behind that later ones wait for.

    MLX counts the tasks of its streams and waits where there are many; an error on a stream's thread breaks its count.
    So refusals come from elsewhere; MLX's own errors do break it, which is why a process of its own has them.
    """
    process = get_context("spawn").Process(target=errors)
    process.start()
    process.join(100)
    hangs = process.is_alive()
    process.kill()
    process.join()
    assert not hangs and process.exitcode == 0


def test_a_length_is_awaited(native: ModuleType, rng: np.random.Generator) -> None:
    """One that the same evaluation computes, on the operation's own stream or on another, is read when it is there."""
    q, k = heads(rng, 1, 2, 1, 8), heads(rng, 1, 2, 4, 8)
    want = native.prefix_attention(q, k, k, q, k, k, 0.5, scale=1.0, length=3)
    for stream in (mx.default_stream(mx.cpu), mx.new_stream(mx.cpu)):
        for _ in range(20):
            slow = mx.linalg.inv(mx.eye(200), stream=stream).sum(stream=stream)
            length = mx.add(slow * 0, 3, stream=stream).astype(mx.int32, stream=stream)
            assert mx.array_equal(native.prefix_attention(q, k, k, q, k, k, 0.5, scale=1.0, length=length), want)


def test_a_chain_among_other_operations(native: ModuleType, rng: np.random.Generator) -> None:
    packed = Packed(rng, 64, 64)
    x = heads(rng, 2, 64)
    y, want = x, np.array(x).astype(np.float64)
    for _ in range(5):
        y = mx.tanh(native.int4_matmul(y * 0.5, *packed.args, residual=y)) + 1
        want = np.tanh((want * 0.5) @ packed.dense.T + want) + 1
    mx.async_eval(y)
    assert relative_error(y, want) < 1e-4  # five layers amplify rounding


def test_a_compiled_function_keeps_its_variants_apart(native: ModuleType, rng: np.random.Generator) -> None:
    """mx.compile merges operations that say they are equivalent: these differ in one attribute each."""
    packed, x = Packed(rng, 64, 64), heads(rng, 2, 64)

    @mx.compile
    def variants(x: mx.array) -> list[mx.array]:
        return [
            native.int4_matmul(x, *packed.args),
            native.int4_matmul(x, *packed.args, activation="gelu"),
            native.int4_matmul(x, *packed.args, residual=x),
            native.int4_matmul(x, *packed.args, bias=packed.scales[:, 0]),
            native.int4_matmul(x, *packed.args),
        ]

    plain, gelu, residual, bias, again = (np.array(a).astype(np.float64) for a in variants(x))
    want = np.array(x).astype(np.float64) @ packed.dense.T
    assert relative_error(mx.array(plain), want) < 1e-5 and (plain == again).all()
    assert np.allclose(residual, plain + np.array(x), atol=1e-4)
    assert np.allclose(bias, plain + np.array(packed.scales[:, 0]), atol=1e-4)
    assert relative_error(mx.array(gelu), np.array(reference.matmul.gelu(mx.array(plain)))) < 1e-5

    q, k = heads(rng, 2, 2, 1, 8), heads(rng, 2, 2, 6, 8)

    @mx.compile
    def gates(q: mx.array, k: mx.array, length: mx.array) -> list[mx.array]:
        return [
            native.prefix_attention(q, k, k, q, k, k, gate, scale=scale, length=length)
            for gate, scale in ((0.0, 1.0), (0.5, 1.0), (0.5, 0.5))
        ]

    for length in (3, 6, 1):  # the same graph, another length
        for actual, (gate, scale) in zip(gates(q, k, mx.array(length)), ((0.0, 1.0), (0.5, 1.0), (0.5, 0.5))):
            want = reference.prefix_attention(q, k, k, q, k, k, gate, scale=scale, length=length)
            assert relative_error(actual, np.array(want)) < 1e-5


def test_several_streams(native: ModuleType, rng: np.random.Generator) -> None:
    packed, x = Packed(rng, 96, 64), heads(rng, 2, 64)
    first, second = mx.new_stream(mx.cpu), mx.new_stream(mx.cpu)
    with mx.stream(first):
        a = native.int4_matmul(x, *packed.args)
    with mx.stream(second):
        b = native.linear(a, mx.array(packed.dense.astype(np.float32)).T)  # waits for the other stream
    want = np.array(x).astype(np.float64) @ packed.dense.T @ packed.dense
    assert relative_error(a + 0, np.array(x) @ packed.dense.T) < 1e-5
    assert relative_error(b, want) < 1e-5


OPERATIONS = [
    "int4_matmul",
    "linear",
    "self_attention",
    "prefix_attention",
    "cross_attention",
    "attention",
    "conv1d",
    "conv_transpose1d",
    "lstm",
]


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_and_vmap_are_refused_clearly(native: ModuleType, rng: np.random.Generator, name: str) -> None:
    packed, h = Packed(rng, 16, 64), heads(rng, 1, 2, 3, 8)
    signal, bias = heads(rng, 2, 9, 4), heads(rng, 3)
    calls: dict[str, tuple[mx.array, Any]] = {
        "int4_matmul": (heads(rng, 2, 64), lambda x: native.int4_matmul(x, *packed.args)),
        "linear": (heads(rng, 2, 64), lambda x: native.linear(x, heads(rng, 5, 64))),
        "self_attention": (
            heads(rng, 1, 2, 48), lambda x: native.self_attention(x, mx.zeros((2, 1, 2, 3, 8)), 0, scale=1.0)[0]
        ),
        "prefix_attention": (h, lambda x: native.prefix_attention(x, h, h, h, h, h, 0.5, scale=1.0, length=3)),
        "cross_attention": (
            heads(rng, 2, 1, 64), lambda x: native.cross_attention(x, *packed.args, h, h, scale=1.0)
        ),
        "attention": (h, lambda x: native.attention(x, h, h, scale=1.0)),
        "conv1d": (signal, lambda x: native.conv1d(x, heads(rng, 3, 2, 4), heads(rng, 3))),
        "conv_transpose1d": (signal, lambda x: native.conv_transpose1d(x, heads(rng, 3, 2, 4), bias, stride=2)),
        "lstm": (signal, lambda x: native.lstm(x, heads(rng, 16, 4), heads(rng, 16, 4), heads(rng, 16))[0]),
    }  # fmt: skip
    x, call = calls[name]
    with pytest.raises(Exception, match=f"{name} of the native backend has no gradient"):
        mx.eval(mx.grad(lambda x: call(x).sum())(x))
    with pytest.raises(Exception, match=f"{name} of the native backend cannot be vmapped"):
        mx.eval(mx.vmap(call)(mx.stack([x, x])))


def test_views_are_read_in_place_or_copied_rightly(native: ModuleType, rng: np.random.Generator) -> None:
    """Packed weights and scales out of larger arrays, transposed and broadcast inputs, steps in every axis."""
    packed = Packed(rng, 40, 128)
    x = heads(rng, 3, 128)
    want = np.array(x).astype(np.float64) @ packed.dense.T
    stacked = [mx.stack([a, a], axis=-1) for a in packed.args]
    inner = [a[..., 0] for a in stacked]  # every element two apart
    assert relative_error(native.int4_matmul(x, *inner), want) < 1e-5
    assert relative_error(native.int4_matmul(mx.stack([x, x], axis=-1)[..., 1], *packed.args), want) < 1e-5
    assert relative_error(native.int4_matmul(mx.contiguous(x.T).T, *packed.args), want) < 1e-5
    assert relative_error(native.int4_matmul(x, packed.w, inner[1], packed.biases), want) < 1e-5
    odd = native.int4_matmul(x, *(a[1::2] for a in packed.args))
    assert relative_error(odd, want[:, 1::2]) < 1e-5
    dense = mx.array(packed.dense.astype(np.float32))
    for w in (dense, mx.contiguous(dense.T).T, mx.stack([dense, dense], axis=-1)[..., 0]):
        for rows in (3, 60):
            y = native.linear(mx.broadcast_to(x[:1], (rows, 128)), w)
            assert relative_error(y, np.repeat(want[:1], rows, axis=0)) < 1e-5

    cache = heads(rng, 2, 2, 3, 10, 16)  # k and v of two rows, as a model keeps them
    q = heads(rng, 2, 5, 3, 16).transpose(0, 2, 1, 3)
    pq, pk = heads(rng, 1, 3, 5, 16), heads(rng, 1, 3, 16, 7).swapaxes(-1, -2)
    actual = native.prefix_attention(q, cache[0], cache[1], pq, pk, pk, 0.3, scale=0.25, length=8)
    expected = reference.prefix_attention(q, cache[0], cache[1], pq, pk, pk, 0.3, scale=0.25, length=8)
    assert relative_error(actual, np.array(expected)) < 1e-5
    # The result's own layout: joining its heads must give what its elements say.
    joined = actual.transpose(0, 2, 1, 3).reshape(2, 5, 48)
    assert (np.array(joined) == np.array(actual).transpose(0, 2, 1, 3).reshape(2, 5, 48)).all()


def test_unused_slots_may_hold_anything(native: ModuleType, rng: np.random.Generator) -> None:
    for steps in (1, 3, 20):
        q, k = heads(rng, 1, 2, steps, 8), heads(rng, 1, 2, 30, 8)
        poisoned = mx.where(mx.arange(30)[:, None] < 25, k, mx.array(float("nan")))
        for length in (25, mx.array(25)):
            a = native.prefix_attention(q, poisoned, poisoned, q, k, k, 0.5, scale=1.0, length=length)
            b = native.prefix_attention(q, k, k, q, k, k, 0.5, scale=1.0, length=length)
            assert (np.array(a) == np.array(b)).all()


def test_gate_zero_is_plain_attention_whatever_the_prefix_holds(native: ModuleType, rng: np.random.Generator) -> None:
    for steps in (1, 20):
        q, k = heads(rng, 2, 2, steps, 8), heads(rng, 2, 2, 30, 8)
        nan = mx.full((1, 2, 4, 8), float("nan"))
        pq = mx.zeros((1, 2, steps, 8))
        a = native.prefix_attention(q, k, k, pq, nan, nan, 0.0, scale=1.0, length=30)
        assert (np.array(a) == np.array(native.attention(q, k, k, scale=1.0, mask="causal"))).all()


def test_a_gate_and_a_length_of_many_axes(native: ModuleType, rng: np.random.Generator) -> None:
    h, deep = heads(rng, 1, 1, 4, 8), (1,) * 9
    a = native.prefix_attention(h, h, h, h, h, h, mx.full(deep, 0.5), scale=1.0, length=mx.full(deep, 4))
    assert (np.array(a) == np.array(native.prefix_attention(h, h, h, h, h, h, 0.5, scale=1.0, length=4))).all()


def test_wrong_arguments_name_the_value_and_the_fix(native: ModuleType, rng: np.random.Generator) -> None:
    packed, x = Packed(rng, 16, 128), heads(rng, 2, 128)
    with pytest.raises(ValueError, match=r"x has shape \(2, 64\).*128"):
        native.int4_matmul(x[:, :64], *packed.args)
    with pytest.raises(ValueError, match=r"x is .*int32.*float32"):
        native.int4_matmul(x.astype(mx.int32), *packed.args)
    with pytest.raises(ValueError, match="residual has shape"):
        native.int4_matmul(x, *packed.args, residual=x)
    with pytest.raises(ValueError, match="length=9"):
        h = heads(rng, 1, 1, 4, 8)
        native.prefix_attention(h, h, h, h, h, h, 0.5, scale=1.0, length=9)
    with pytest.raises(ValueError, match="mask"):
        native.attention(h, h, h, scale=1.0, mask=mx.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"stride=1 do not fit.* L >= k, the residual"):
        native.conv1d(heads(rng, 1, 2, 4), heads(rng, 3, 5, 4), heads(rng, 3))
    with pytest.raises(
        ValueError, match=r"w \(3, 5, 4\) .*float32, bias \(3,\) .*int32 and stride=2 do not fit"
    ) as caught:
        native.conv_transpose1d(heads(rng, 1, 2, 4), heads(rng, 3, 5, 4), mx.zeros(3, mx.int32), stride=2)
    assert "L >= k" not in str(caught.value) and "residual" not in str(caught.value)
    with pytest.raises(ValueError, match="do not fit"):
        native.lstm(heads(rng, 1, 2, 4), heads(rng, 8, 4), heads(rng, 16, 4), heads(rng, 16))
