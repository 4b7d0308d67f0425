"""Calls of every operation of the contract, at the model's shapes in small, and at ragged ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from reference.contract import Prefix

DTYPES = (mx.float16, mx.bfloat16, mx.float32)


class Case(NamedTuple):
    """One call: `arguments()` makes the same values each time."""

    operation: str
    shape: str
    dtype: mx.Dtype
    make: Callable[[Random], dict[str, Any]]

    def arguments(self) -> dict[str, Any]:
        """Return the arguments by name, as the contract has them."""
        return self.make(Random(self.dtype))

    @property
    def label(self) -> str:
        """The case in words for a report: `int4_matmul float16, 2 rows, ...`."""
        return f"{self.operation} {str(self.dtype).rpartition('.')[2]}, {self.shape}"


class Random:
    """Seeded normal values of one dtype."""

    def __init__(self, dtype: mx.Dtype) -> None:
        self.dtype, self.rng = dtype, np.random.default_rng(0)

    def __call__(self, *shape: int, std: float = 1.0, mean: float = 0.0) -> mx.array:
        """Return an array of a shape."""
        return mx.array(self.rng.normal(mean, std, shape).astype(np.float32)).astype(self.dtype)

    def norm(self, k: int) -> tuple[mx.array, mx.array, float]:
        """Return a layer norm's weight, bias and eps."""
        return self(k, mean=1.0, std=0.2), self(k, std=0.2), 1e-5

    def packed(self, n: int, k: int, bits: int, group_size: int) -> dict[str, Any]:
        """Return a quantized matrix [n,k]: every bit pattern, scales of both signs."""
        top, shape = 2**bits - 1, (n, k // group_size)
        scales = self.rng.uniform(0.5, 1.5, shape) * 6 / top / math.sqrt(k) * self.rng.choice((-1.0, 1.0), shape)
        biases = -scales * top / 2 + self.rng.normal(0, 0.2 / math.sqrt(k), shape)
        return {
            "w": mx.array(self.rng.integers(0, 2**32, (n, k * bits // 32), dtype=np.uint32)),
            "scales": mx.array(scales.astype(np.float32)).astype(self.dtype),
            "biases": mx.array(biases.astype(np.float32)).astype(self.dtype),
            "group_size": group_size,
            "bits": bits,
        }


def cases() -> Iterator[Case]:
    """Yield all cases, operation by operation."""
    for operation, shape, make in (*_products(), *_attentions(), *_codec()):
        for dtype in DTYPES:
            yield Case(operation, shape, dtype, make)


Shaped = tuple[str, str, Callable[[Random], dict[str, Any]]]


def _products() -> Iterator[Shaped]:
    def packed(rows: tuple[int, ...], n: int, k: int, bits: int = 4, group: int = 64, epilogue: bool = True) -> Shaped:
        def make(r: Random) -> dict[str, Any]:
            found = {"x": r(*rows, k, mean=0.5), **r.packed(n, k, bits, group)}
            return found | (_epilogue(r, rows, n, k) if epilogue else {})

        with_ = ", norm, bias, gelu, residual" if epilogue else ""
        return "int4_matmul", f"{list(rows)} rows of {k} to {n}, {bits} bits in {group}s{with_}", make

    def dense(rows: tuple[int, ...], n: int, k: int, epilogue: bool) -> Shaped:
        def make(r: Random) -> dict[str, Any]:
            found = {"x": r(*rows, k, mean=0.5), "w": r(n, k, std=k**-0.5)}
            return found | (_epilogue(r, rows, n, k) if epilogue else {})

        return "linear", f"{list(rows)} rows of {k} to {n}{', norm, bias, gelu, residual' if epilogue else ''}", make

    yield packed((1,), 96, 256, epilogue=False)
    yield packed((2, 1), 192, 2048)
    yield packed((2, 1), 128, 128, group=32)
    yield packed((8,), 37, 256, bits=8, group=32)
    yield packed((3,), 5, 384, group=128)
    yield packed((2, 14), 130, 192)
    yield packed((70,), 66, 256, bits=8, epilogue=False)
    yield dense((2, 1), 128, 1024, True)
    yield dense((40,), 33, 100, True)
    yield dense((1, 25, 1), 64, 128, False)


def _epilogue(r: Random, rows: tuple[int, ...], n: int, k: int) -> dict[str, Any]:
    return {"norm": r.norm(k), "bias": r(n), "activation": "gelu", "residual": r(*rows, n)}


def _attentions() -> Iterator[Shaped]:
    def prefix(
        rows: int, shared: int, steps: int, slots: int, length: int, frames: int, dim: int, array: bool = False
    ) -> Shaped:
        def make(r: Random) -> dict[str, Any]:
            used = (mx.arange(slots) < length)[:, None]
            nan = mx.array(math.nan, dtype=r.dtype)
            cache = mx.where(used, r(2, rows, 2, slots, dim), nan)  # what is beyond `length` must not be used
            return {
                "q": r(rows, 2, steps, dim), "k": cache[0], "v": cache[1], "prefix_q": r(shared, 2, steps, dim),
                "prefix_k": r(shared, 2, frames, dim), "prefix_v": r(shared, 2, frames, dim),
                "gate": mx.array([0.7]), "scale": dim**-0.5,
                "length": mx.array([length], dtype=mx.int32) if array else length,
            }  # fmt: skip

        shape = f"{rows} rows, {steps} queries, {length} of {slots} keys, prefix {shared} x {frames}, heads of {dim}"
        return "prefix_attention", shape, make

    def cached(
        rows: int, steps: int, slots: int, position: int, dim: int, shared: int = 0, used: slice = slice(None)
    ) -> Shaped:
        def make(r: Random) -> dict[str, Any]:
            own = len(range(rows)[used])
            kv, q = ((shared, 2, n, dim) for n in (33, steps + 3))
            prefix = {"prefix": Prefix(r(*q), r(*kv), r(*kv), mx.array([0.7])), "query_row": 2} if shared else {}
            return {
                "qkv": r(own, steps, 6 * dim), "cache": r(2, rows, 2, slots, dim), "position": position,
                "scale": dim**-0.5, "rows": used, **prefix,
            }  # fmt: skip

        shape = f"{rows} rows, {steps} queries from {position} of {slots} on, prefix of {shared}, heads of {dim}"
        return "self_attention", shape, make

    def cross(rows: int, text: int, steps: int, keys: int, dim: int, bits: int = 4, group: int = 32) -> Shaped:
        def make(r: Random) -> dict[str, Any]:
            return {
                "x": r(rows, steps, 128, mean=0.3), **r.packed(2 * dim, 128, bits, group), "k": r(text, 2, keys, dim),
                "v": r(text, 2, keys, dim), "scale": dim**-0.5, "norm": r.norm(128),
            }  # fmt: skip

        shape = f"{rows} rows, {text} with text, {steps} queries, {keys} keys, heads of {dim}, {bits} bits in {group}s"
        return "cross_attention", shape, make

    def plain(rows: int, steps: int, keys: int, dim: int, mask: str | None) -> Shaped:
        def make(r: Random) -> dict[str, Any]:
            given = r(1, 2, steps, keys) if mask == "additive" else mask
            q, k, v = r(rows, 2, steps, dim), r(rows, 2, keys, dim), r(rows, 2, keys, dim)
            return {"q": q, "k": k, "v": v, "scale": dim**-0.5, "mask": given}

        return "attention", f"{rows} rows, {steps} queries, {keys} keys, heads of {dim}, mask {mask}", make

    yield cached(2, 1, 60, 40, 64, shared=1)
    yield cached(4, 1, 17, 16, 32, shared=2)
    yield cached(1, 1, 30, 0, 64)
    yield cached(4, 5, 40, 20, 64, shared=1, used=slice(1, None, 2))
    yield cached(2, 14, 40, 3, 64, shared=1)
    yield prefix(2, 1, 1, 60, 41, 51, 64)
    yield prefix(2, 1, 1, 253, 250, 251, 64)
    yield prefix(1, 1, 1, 30, 30, 26, 32, array=True)
    yield prefix(4, 2, 1, 17, 9, 33, 128)
    yield prefix(2, 1, 5, 40, 29, 37, 64)
    yield prefix(2, 1, 1, 2200, 2100, 501, 64)  # Metal splits so many keys among threadgroups
    yield cross(2, 1, 1, 12, 64)
    yield cross(1, 1, 1, 7, 32, bits=8)
    yield cross(4, 2, 1, 9, 64, group=64)
    yield cross(2, 1, 6, 12, 64)
    yield plain(1, 26, 26, 64, "causal")
    yield plain(2, 1, 40, 64, None)
    yield plain(1, 11, 11, 64, "additive")


def _codec() -> Iterator[Shaped]:
    def conv(frames: int, c: int, n: int, width: int, stride: int, residual: bool) -> Shaped:
        def make(r: Random) -> dict[str, Any]:
            found = {"x": r(1, (frames - 1) * stride + width, c), "w": r(n, width, c, std=(width * c) ** -0.5)}
            more = {"residual": r(1, frames, n)} if residual else {}
            return found | more | {"bias": r(n), "stride": stride, "elu": residual}

        shape = f"{frames} frames, {c} to {n} channels, width {width}, stride {stride}"
        return "conv1d", shape + (", elu, residual" if residual else ""), make

    def transposed(frames: int, c: int, n: int, stride: int) -> Shaped:
        def make(r: Random) -> dict[str, Any]:
            w = r(n, 2 * stride, c, std=(2 * stride * c) ** -0.5)
            return {"x": r(1, frames, c), "w": w, "bias": r(n), "stride": stride, "elu": True}

        return "conv_transpose1d", f"{frames} frames, {c} to {n} channels, stride {stride}, elu", make

    def lstm(rows: int, frames: int, size: int, goes_on: bool = False) -> Shaped:
        def make(r: Random) -> dict[str, Any]:
            w_ih, w_hh = r(4 * size, size, std=0.7 * size**-0.5), r(4 * size, size, std=0.7 * size**-0.5)
            state = {"state": r(2, rows, size, std=0.5).astype(mx.float32)} if goes_on else {}
            return {"x": r(rows, frames, size), "w_ih": w_ih, "w_hh": w_hh, "bias": r(4 * size, std=0.3)} | state

        return "lstm", f"{rows} x {frames} frames of {size}{', from a state' if goes_on else ''}", make

    yield conv(60, 1, 32, 7, 1, False)
    yield conv(40, 24, 24, 3, 1, True)
    yield conv(30, 16, 32, 8, 4, False)
    yield transposed(25, 64, 32, 8)
    yield transposed(20, 16, 8, 5)
    yield lstm(1, 25, 128)
    yield lstm(2, 9, 24, goes_on=True)
