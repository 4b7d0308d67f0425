"""The operations inside MLX graphs: compiled once and used for many steps, and evaluated behind the caller's back."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels import Ops

from ...strategies import Random

STEPS, SLOTS, HEADS, DIM = 4, 9, 2, 32


def model(ops: Ops) -> Any:
    """A layer in small: projection with its norm, cache update, prefix attention, residual."""
    r = Random(1)
    width = HEADS * DIM
    qkv = r.packed(3 * width, width, group_size=32, bits=4, dtype=mx.float32)
    out = r.packed(width, width, group_size=32, bits=4, dtype=mx.float32)
    norm = (r.normal(width, mean=1.0, std=0.1), r.normal(width, std=0.1), 1e-5)
    prefix = [r.normal(1, HEADS, n, DIM) for n in (1, 7, 7)]
    mx.eval(qkv, out, norm, prefix)

    def step(x: mx.array, cache: mx.array, position: mx.array) -> tuple[mx.array, mx.array]:
        y = ops.int4_matmul(x, **qkv, norm=norm).reshape(2, 1, 3, HEADS, DIM).transpose(2, 0, 3, 1, 4)
        cache = mx.slice_update(cache, y[1:], position, axes=[3])
        a = ops.prefix_attention(y[0], cache[0], cache[1], *prefix, mx.array(0.3), scale=DIM**-0.5, length=position + 1)
        return ops.int4_matmul(a.transpose(0, 2, 1, 3).reshape(2, 1, width), **out, residual=x), cache

    return step, r.normal(2, 1, width), mx.zeros((2, 2, HEADS, SLOTS, DIM))


def run(step: Any, x: mx.array, cache: mx.array) -> np.ndarray:
    outputs = []
    for t in range(STEPS):
        x, cache = step(x, cache, mx.array([t], dtype=mx.int32))
        mx.async_eval(x, cache)
        outputs.append(x)
    return np.array(mx.stack(outputs))


def test_steps_enqueued_ahead(ops: Ops) -> None:
    """Each step evaluated on its own, against steps that are enqueued while the last one runs."""
    step, x, cache = model(ops)
    expected = []
    state, kept = x, cache
    for t in range(STEPS):
        state, kept = step(state, kept, mx.array([t], dtype=mx.int32))
        mx.eval(state, kept)
        expected.append(np.array(state))
    np.testing.assert_array_equal(run(step, x, cache), np.stack(expected))


def test_compiled_graph(ops: Ops) -> None:
    """One graph for all positions: the length is an array."""
    step, x, cache = model(ops)
    if ops.name == "interpreter":  # it runs a kernel when it is called, so there is nothing to trace
        with pytest.raises(Exception, match=r"eval|compile|trac"):
            mx.eval(mx.compile(step)(x, cache, mx.array([0], dtype=mx.int32)))
        return
    np.testing.assert_allclose(run(mx.compile(step), x, cache), run(step, x, cache), rtol=1e-5, atol=1e-5)
