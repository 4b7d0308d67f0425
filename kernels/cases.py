"""Calls of each operation with drawn arguments: their bytes, flops and distance from the oracle.

A case's arguments are float16 masters, cast to each backend's own dtypes and layout: a cast upwards is exact, so that
one float64 oracle serves all columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np

from reference import oracle
from reference.contract import Norm, Ops, Packed

Arguments = dict[str, Any]
ORACLE_ROWS, ORACLE_COLUMNS, ORACLE_FRAMES, ORACLE_HEADS = 4, 128, 24, 2
WEIGHTS = ("w", "w_ih", "w_hh")


class Draw:
    """Seeded arrays in float16."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int, std: float = 1.0) -> mx.array:
        """Draw from a normal distribution."""
        return mx.array(self.rng.standard_normal(shape, dtype=np.float32) * std).astype(mx.float16)

    def packed(self, n: int, k: int, bits: int = 4, group_size: int = 64) -> Packed:
        """Return a quantized [n, k] matrix with entries of about 1/sqrt(k), every bit pattern among them."""
        scales = self.rng.uniform(0.5, 1.5, (n, k // group_size)).astype(np.float32) * 6 / (2**bits - 1) / math.sqrt(k)
        w = mx.array(self.rng.integers(0, 2**32, (n, k * bits // 32), dtype=np.uint32))
        biases = -scales * (2**bits - 1) / 2
        return Packed(w, mx.array(scales).astype(mx.float16), mx.array(biases).astype(mx.float16), group_size, bits)

    def norm(self, k: int) -> Norm:
        """Return the weight and bias of a layer norm over k."""
        return Norm(1 + self.normal(k, std=0.1), self.normal(k, std=0.1))


@dataclass(frozen=True)
class Case:
    """One operation at one shape."""

    name: str
    operation: str
    make: Callable[[Draw], Arguments]
    flops: float
    needed: tuple[str, ...]  # the arguments that must be read from memory
    quick: bool = False  # part of `--quick`
    gemm_rows: int = 0  # of a bare product without epilogue: sgemm of so many rows does the same work

    def reads(self, arguments: Arguments) -> int:
        """Return the bytes that must be read in the dtypes given; of caches only the rows in use count."""
        total = 0
        for name in self.needed:
            arrays = arguments[name].plain().arrays() if isinstance(arguments[name], Packed) else [arguments[name]]
            share = arguments["length"] / arrays[0].shape[2] if name in ("k", "v") and "length" in arguments else 1
            total += int(sum(array.nbytes for array in arrays) * share)
        return total


def cast(arguments: Arguments, ops: Ops) -> Arguments:
    """Return the arguments as a backend wants them.

    Weights in its weight dtype, and its layout where they are packed; all else in its compute dtype.
    """
    stored = mx.float16
    compute, weight = ops.compute_dtype(stored), ops.weight_dtype(stored)

    def one(name: str, value: Any) -> Any:
        if isinstance(value, Packed):
            return ops.pack(replace(value, scales=value.scales.astype(weight), biases=value.biases.astype(weight)))
        if isinstance(value, Norm):
            return Norm(value.weight.astype(compute), value.bias.astype(compute), value.eps)
        if isinstance(value, mx.array) and value.dtype == stored:
            return value.astype(weight if name in WEIGHTS else compute)
        return value

    return {name: one(name, value) for name, value in arguments.items()}


def call(ops: Ops, operation: str, arguments: Arguments) -> mx.array:
    """Return the operation's result, lazily; of an LSTM the outputs without the state after them."""
    result: mx.array | tuple[mx.array, mx.array] = getattr(ops, operation)(**arguments)
    return result[0] if isinstance(result, tuple) else result


def exact(operation: str, arguments: Arguments) -> oracle.Float64:
    """Return the oracle's result; of an LSTM the outputs without the state after them."""
    result = getattr(oracle, operation)(**_unpacked(arguments))
    return np.asarray(result[0] if isinstance(result, tuple) else result)


def error(case: Case, arguments: Arguments, result: mx.array) -> dict[str, float]:
    """Measure the distance from the float64 oracle, on a part of the result where the whole would take minutes.

    Return `relative_l2`, `max_abs` and the number of `elements` that were compared.
    """
    part, got = _part(case.operation, _unpacked(arguments), result)
    want = exact(case.operation, part)[:, : got.shape[1]]
    difference = oracle.float64(got) - want
    return {
        "relative_l2": float(np.linalg.norm(difference) / max(float(np.linalg.norm(want)), 1e-30)),
        "max_abs": float(np.abs(difference).max()),
        "elements": int(want.size),
    }


def _unpacked(arguments: Arguments) -> Arguments:
    """Return the arguments with a packed matrix in its parts."""
    w = arguments.get("w")
    return arguments | dict(vars(w)) if isinstance(w, Packed) else arguments


def _part(operation: str, a: Arguments, result: mx.array) -> tuple[Arguments, mx.array]:
    """Return arguments of a part of the result, and that part: some rows and columns, heads or frames."""
    if operation in ("int4_matmul", "linear"):
        n = result.shape[-1]
        columns = mx.array(sorted({*range(min(n, ORACLE_COLUMNS)), *range(max(0, n - ORACLE_COLUMNS), n)}))
        by_row: Arguments = {name: a[name][columns] for name in ("w", "scales", "biases") if name in a}
        if a.get("residual") is not None:
            by_row["residual"] = a["residual"][:ORACLE_ROWS, columns]
        return a | by_row | {"x": a["x"][:ORACLE_ROWS]}, result[:ORACLE_ROWS, columns]
    if operation in ("prefix_attention", "attention"):
        heads = {k: v[:, :ORACLE_HEADS] for k, v in a.items() if isinstance(v, mx.array) and v.ndim == 4}
        return a | heads, result[:, :ORACLE_HEADS]
    if operation == "cross_attention":
        return a, result
    frames = min(ORACLE_FRAMES, result.shape[1] if operation == "conv1d" else a["x"].shape[1])
    read = (frames - 1) * a["stride"] + a["w"].shape[1] if operation == "conv1d" else frames
    made = frames * a["stride"] if operation == "conv_transpose1d" else frames
    return a | {"x": a["x"][:, :read]}, result[:, :made]


def matmul(
    name: str, m: int, n: int, k: int, *, bits: int = 4, group_size: int = 64, quick: bool = False, **epilogue: bool
) -> Case:
    """Return a packed product; `norm`, `gelu` and `residual` may be in its epilogue."""

    def make(r: Draw) -> Arguments:
        arguments: Arguments = {"x": r.normal(m, k), "w": r.packed(n, k, bits, group_size)}
        if epilogue.get("norm"):
            arguments["norm"] = r.norm(k)
        if epilogue.get("residual"):
            arguments["residual"] = r.normal(m, n)
        return arguments | ({"activation": "gelu"} if epilogue.get("gelu") else {})

    title = f"int4_matmul {name} M={m} N={n} K={k}{'' if bits == 4 else f' {bits} bits'}"
    return Case(title, "int4_matmul", make, 2.0 * m * n * k, ("w",), quick, 0 if any(epilogue.values()) else m)


def linear(name: str, m: int, n: int, k: int, *, norm: bool = False, quick: bool = False) -> Case:
    """Return a dense product."""

    def make(r: Draw) -> Arguments:
        arguments: Arguments = {"x": r.normal(m, k), "w": r.normal(n, k, std=1 / math.sqrt(k))}
        return arguments | ({"norm": r.norm(k)} if norm else {})

    return Case(f"linear {name} M={m} N={n} K={k}", "linear", make, 2.0 * m * n * k, ("w",), quick)


def prefix_attention(
    name: str, rows: int, heads: int, dim: int, *, length: int, slots: int, prefix: int, quick: bool = False
) -> Case:
    """Return the gated prefix attention of guidance pairs: `rows` / 2 prefixes."""

    def make(r: Draw) -> Arguments:
        k, v = r.normal(2, rows, heads, slots, dim)
        made: Arguments = {"q": r.normal(rows, heads, 1, dim), "k": k, "v": v}
        for name, frames in (("prefix_q", 1), ("prefix_k", prefix), ("prefix_v", prefix)):
            made[name] = r.normal(max(1, rows // 2), heads, frames, dim)
        return made | {"gate": mx.array([0.7]), "scale": dim**-0.5, "length": length}

    flops = 4.0 * rows * heads * dim * (length + prefix)
    title = f"prefix_attention {name} B={rows} H={heads} T=1 S={length} P={prefix} D={dim}"
    return Case(title, "prefix_attention", make, flops, ("k", "v", "prefix_k", "prefix_v"), quick)


def cross_attention(rows: int, heads: int, dim: int, *, text: int, quick: bool = False) -> Case:
    """Return the attention to the text of guidance pairs, their query projection included."""
    model, given = heads * dim, max(1, rows // 2)

    def make(r: Draw) -> Arguments:
        x, k, v = r.normal(rows, 1, model), *(r.normal(given, heads, text, dim) for _ in "kv")
        w = {"norm": r.norm(model), "w": r.packed(model, model, 4, 64 if model % 64 == 0 else 32)}
        return {"x": x, "k": k, "v": v, "scale": dim**-0.5} | w

    title = f"cross_attention M={rows} N={model} K={model} S={text}"
    return Case(title, "cross_attention", make, 2.0 * given * model * (model + 2 * text), ("w", "k", "v"), quick)


def attention(rows: int, heads: int, dim: int, frames: int) -> Case:
    """Return the adapter's causal attention."""

    def make(r: Draw) -> Arguments:
        q, k, v = (r.normal(rows, heads, frames, dim) for _ in range(3))
        return {"q": q, "k": k, "v": v, "scale": dim**-0.5, "mask": "causal"}

    title = f"attention causal B={rows} H={heads} T={frames} D={dim}"
    return Case(title, "attention", make, 2.0 * rows * heads * dim * frames * frames, ("q", "k", "v"))


def conv(channels: int, out: int, width: int, stride: int, frames: int, *, transposed: bool = False) -> Case:
    """Return a convolution of the codec over one second of audio, or its transposed counterpart."""
    operation = "conv_transpose1d" if transposed else "conv1d"
    length = frames if transposed else (frames - 1) * stride + width

    def make(r: Draw) -> Arguments:
        x, w = r.normal(1, length, channels), r.normal(out, width, channels, std=1 / math.sqrt(channels * width))
        return {"x": x, "w": w, "bias": r.normal(out), "stride": stride, "elu": True}

    title = f"{operation} {channels} to {out} k={width} stride={stride} L={length}"
    return Case(title, operation, make, 2.0 * frames * channels * out * width, ("x", "w"), quick=transposed)


def lstm(channels: int, frames: int) -> Case:
    """Return one layer of the codec's LSTM over one second."""

    def make(r: Draw) -> Arguments:
        std = 1 / math.sqrt(channels)
        maps = {name: r.normal(4 * channels, channels, std=std) for name in ("w_ih", "w_hh")}
        return {"x": r.normal(1, frames, channels), "bias": r.normal(4 * channels, std=0.1)} | maps

    title = f"lstm C={channels} L={frames}"
    return Case(title, "lstm", make, 2.0 * frames * 8 * channels * channels, ("w_ih", "w_hh"))
