"""Hypothesis strategies for the operations' arguments, shared by all kernel tests.

A case draws shapes, dtypes and layouts; values come from a seeded generator. Arrays reach the operation as views drawn
from `VIEWS`: the same values, laid out otherwise in a larger buffer whose other elements are NaN.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mlx.core as mx
import numpy as np
from hypothesis import strategies as st

DTYPES = (mx.float32, mx.float16, mx.bfloat16)
VIEWS = ("contiguous", "offset", "strided", "transposed")

dtypes = st.sampled_from(DTYPES)
views = st.sampled_from(VIEWS)
seeds = st.integers(0, 2**31 - 1)
bits = st.sampled_from((4, 8))
group_sizes = st.sampled_from((32, 64, 128))
gates = st.sampled_from((0.0, 1.0, -0.7, 0.031, 3.0))
# Multiples of 8 from 16 to 128; the model has 64 (large), tests of its small twin 16.
head_dims = st.sampled_from((16, 32, 48, 64, 80, 96, 128))


def view(a: mx.array, layout: str) -> mx.array:
    """`a`'s values in another memory layout; what surrounds them in the buffer is NaN (or all ones for integers)."""
    filler = mx.array(0xFFFFFFFF, dtype=mx.uint32) if a.dtype == mx.uint32 else mx.array(math.nan, dtype=a.dtype)
    if layout == "contiguous" or a.ndim == 0:
        return mx.contiguous(a)
    if layout == "offset":  # an inner block of a larger buffer
        big = mx.broadcast_to(filler, tuple(n + 2 for n in a.shape))
        inner = tuple(slice(1, n + 1) for n in a.shape)
        big = mx.slice_update(mx.contiguous(big), a, mx.array([1] * a.ndim), axes=list(range(a.ndim)))
        mx.eval(big)
        return big[inner]
    if layout == "strided":  # every second element of the last axis
        big = mx.stack([a, mx.broadcast_to(filler, a.shape)], axis=-1).reshape(*a.shape[:-1], -1)
        mx.eval(big)
        return big[..., ::2]
    if layout == "transposed":  # last two axes stored the other way round
        if a.ndim < 2:
            return mx.contiguous(a)
        swapped = mx.contiguous(a.swapaxes(-1, -2))
        mx.eval(swapped)
        return swapped.swapaxes(-1, -2)
    raise ValueError(f"layout={layout!r} is not one of {VIEWS}")


class Random:
    """Normal values in a dtype and layout, from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(
        self, *shape: int, dtype: mx.Dtype = mx.float32, std: float = 1.0, mean: float = 0.0, layout: str = "contiguous"
    ) -> mx.array:
        values = self.rng.normal(mean, std, shape).astype(np.float32)
        return view(mx.array(values).astype(dtype), layout)

    def packed(
        self, n: int, k: int, *, group_size: int, bits: int, dtype: mx.Dtype, layout: str = "contiguous"
    ) -> dict[str, Any]:
        """w, scales, biases, group_size and bits: every bit pattern occurs, weights lie about within ±1/sqrt(K)·3."""
        w = self.rng.integers(0, 2**32, (n, k * bits // 32), dtype=np.uint32)
        top = 2**bits - 1
        scales = self.rng.uniform(0.5, 1.5, (n, k // group_size)) * 6 / top / math.sqrt(k)
        scales *= self.rng.choice((-1.0, 1.0), scales.shape)  # mx.quantize makes scales of both signs
        biases = -scales * top / 2 + self.rng.normal(0, 0.2 / math.sqrt(k), scales.shape)
        return {
            "w": view(mx.array(w), layout),
            "scales": view(mx.array(scales.astype(np.float32)).astype(dtype), layout),
            "biases": view(mx.array(biases.astype(np.float32)).astype(dtype), layout),
            "group_size": group_size,
            "bits": bits,
        }


@dataclasses.dataclass(frozen=True)
class Matmul:
    """Arguments of `int4_matmul` beside what the seed gives."""

    seed: int
    rows: tuple[int, ...]  # leading shape of x
    n: int
    groups: int
    group_size: int
    bits: int
    dtype: mx.Dtype
    scale_dtype: mx.Dtype
    layout: str
    bias: bool = False
    gelu: bool = False
    residual: bool = False
    norm: bool = False

    @property
    def k(self) -> int:
        return self.groups * self.group_size

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for the operation and for the oracle."""
        r = Random(self.seed)
        out: dict[str, Any] = {"x": r.normal(*self.rows, self.k, dtype=self.dtype, layout=self.layout)}
        if self.norm:  # an offset, so that a lost mean shows
            out["x"] = r.normal(*self.rows, self.k, dtype=self.dtype, mean=0.7, std=1.5, layout=self.layout)
            weight = r.normal(self.k, dtype=self.dtype, mean=1.0, std=0.2, layout=self.layout)
            out["norm"] = (weight, r.normal(self.k, dtype=self.dtype, std=0.2, layout=self.layout), 1e-5)
        out |= r.packed(
            self.n, self.k, group_size=self.group_size, bits=self.bits, dtype=self.scale_dtype, layout=self.layout
        )
        if self.bias:
            out["bias"] = r.normal(self.n, dtype=self.dtype, layout=self.layout)
        if self.residual:
            out["residual"] = r.normal(*self.rows, self.n, dtype=self.dtype, layout=self.layout)
        if self.gelu:
            out["activation"] = "gelu"
        return out


@st.composite
def matmuls(draw: st.DrawFn, *, rows: st.SearchStrategy[tuple[int, ...]] | None = None, max_k: int = 768) -> Matmul:
    """Decode rows (1..8, any leading shape) by default; N odd as often as not; K any multiple of the group."""
    group_size = draw(group_sizes)
    dtype = draw(dtypes)
    if rows is None:
        rows = st.one_of(
            st.tuples(st.integers(1, 8)), st.tuples(st.integers(1, 4), st.just(1)), st.just(()), st.just((2, 3))
        )
    return Matmul(
        seed=draw(seeds),
        rows=draw(rows),
        n=draw(st.integers(1, 70)),
        groups=draw(st.integers(1, max_k // group_size)),
        group_size=group_size,
        bits=draw(bits),
        dtype=dtype,
        scale_dtype=draw(st.sampled_from((dtype, mx.float16) if dtype == mx.float32 else (dtype,))),
        layout=draw(views),
        bias=draw(st.booleans()),
        gelu=draw(st.booleans()),
        residual=draw(st.booleans()),
        norm=draw(st.booleans()),
    )


@dataclasses.dataclass(frozen=True)
class PrefixAttention:
    """Arguments of `prefix_attention` beside what the seed gives."""

    seed: int
    shared: int  # B', rows of the prefix
    pairs: int  # B / B'
    heads: int
    steps: int
    slots: int
    length: int
    frames: int
    dim: int
    gate: float
    dtype: mx.Dtype
    layout: str
    array_length: bool = False
    combined: bool = False  # k and v are the halves of one cache [2,B,H,S,D]

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for the operation; slots from `length` on hold NaN."""
        r = Random(self.seed)
        rows = self.shared * self.pairs
        cache = r.normal(2, rows, self.heads, self.slots, self.dim, dtype=self.dtype)
        used = mx.arange(self.slots)[:, None] < self.length
        cache = mx.where(used, cache, mx.array(math.nan, dtype=self.dtype))
        k, v = (cache[0], cache[1]) if self.combined else (view(cache[0], self.layout), view(cache[1], self.layout))
        prefix = (self.shared, self.heads)
        return {
            "q": r.normal(rows, self.heads, self.steps, self.dim, dtype=self.dtype, layout=self.layout),
            "k": k,
            "v": v,
            "prefix_q": r.normal(*prefix, self.steps, self.dim, dtype=self.dtype, layout=self.layout),
            "prefix_k": r.normal(*prefix, self.frames, self.dim, dtype=self.dtype, layout=self.layout),
            "prefix_v": r.normal(*prefix, self.frames, self.dim, dtype=self.dtype, layout=self.layout),
            "gate": mx.array(self.gate, dtype=self.dtype),
            "scale": 1 / math.sqrt(self.dim),
            "length": mx.array([self.length], dtype=mx.int32) if self.array_length else self.length,
        }


@st.composite
def prefix_attentions(draw: st.DrawFn, *, steps: st.SearchStrategy[int] = st.just(1)) -> PrefixAttention:  # noqa: B008
    """One query a row by default; lengths and prefixes from 1 on, mostly not multiples of anything."""
    queries = draw(steps)
    length = draw(st.one_of(st.integers(queries, queries + 40), st.integers(queries, 300)))
    return PrefixAttention(
        seed=draw(seeds),
        shared=draw(st.integers(1, 2)),
        pairs=draw(st.integers(1, 3)),
        heads=draw(st.integers(1, 3)),
        steps=queries,
        slots=length + draw(st.sampled_from((0, 1, 17))),
        length=length,
        frames=draw(st.one_of(st.integers(1, 40), st.integers(1, 300))),
        dim=draw(head_dims),
        gate=draw(gates),
        dtype=draw(dtypes),
        layout=draw(views),
        array_length=draw(st.booleans()),
        combined=draw(st.booleans()),
    )
