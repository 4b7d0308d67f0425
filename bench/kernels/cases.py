"""What `bench kernels` times: each operation at the model's shapes and at awkward ones, with bytes, flops and oracle.

A case's arguments are float16 masters, cast to each backend's own dtypes: a cast upwards is exact, so that one float64
oracle serves all columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from model.config import CodecConfig, LMConfig
from reference import oracle
from reference.contract import Norm, Ops

Arguments = dict[str, Any]
ORACLE_ROWS, ORACLE_COLUMNS, ORACLE_FRAMES = 4, 128, 24
WEIGHTS = ("w", "scales", "biases", "w_ih", "w_hh")


@dataclass(frozen=True)
class Case:
    """One operation at one shape."""

    name: str
    operation: str
    make: Callable[[np.random.Generator], Arguments]
    flops: float
    needed: tuple[str, ...]  # the arguments that must be read from memory
    quick: bool = False  # part of `--quick`
    gemm_rows: int = 0  # of a bare product without epilogue: sgemm of so many rows does the same work

    def reads(self, arguments: Arguments) -> int:
        """Bytes that must be read, in the dtypes given: of caches only the rows in use."""
        total = 0
        for name in self.needed:
            array = arguments[name]
            share = arguments["length"] / array.shape[2] if name in ("k", "v") and "length" in arguments else 1
            total += int(array.nbytes * share)
        return total


def cast(arguments: Arguments, ops: Ops) -> Arguments:
    """Return the arguments in the dtypes that a backend wants: weights its weight dtype, all else its compute dtype."""
    stored = mx.float16
    compute, weight = ops.compute_dtype(stored), ops.weight_dtype(stored)

    def one(name: str, value: Any) -> Any:
        if isinstance(value, mx.array) and value.dtype == stored:
            return value.astype(weight if name in WEIGHTS else compute)
        if isinstance(value, Norm):
            return Norm(value.weight.astype(compute), value.bias.astype(compute), value.eps)
        return value

    return {name: one(name, value) for name, value in arguments.items()}


def dense(arguments: Arguments) -> Arguments:
    """Return the plain float32 product of an `int4_matmul`'s activations and dequantized matrix.

    Its arguments are those of `linear`.
    """
    packing = {name: arguments[name] for name in ("bits", "group_size")}
    scales, biases = (arguments[name].astype(mx.float32) for name in ("scales", "biases"))
    w = mx.dequantize(arguments["w"], scales, biases, **packing)
    return {"x": arguments["x"].astype(mx.float32), "w": w}


def call(ops: Ops, operation: str, arguments: Arguments) -> mx.array:
    """Return the operation, lazily; of an LSTM the result without the state after it."""
    result: mx.array | tuple[mx.array, mx.array] = getattr(ops, operation)(**arguments)
    return result[0] if isinstance(result, tuple) else result


def error(case: Case, arguments: Arguments, result: mx.array) -> dict[str, float]:
    """Distance from the float64 oracle, on a part of the result where the whole would take the oracle minutes."""
    want, got = _oracle(case.operation, arguments, result)
    difference = oracle.float64(got) - want
    return {
        "relative_l2": float(np.linalg.norm(difference) / max(float(np.linalg.norm(want)), 1e-30)),
        "max_abs": float(np.abs(difference).max()),
        "elements": int(want.size),
    }


def _oracle(operation: str, arguments: Arguments, result: mx.array) -> tuple[oracle.Float64, mx.array]:
    a = dict(arguments)
    if operation in ("int4_matmul", "linear"):
        n = a["w"].shape[0]
        columns = mx.array(sorted({*range(min(n, ORACLE_COLUMNS)), *range(max(0, n - ORACLE_COLUMNS), n)}))
        a["x"] = a["x"].reshape(-1, a["x"].shape[-1])[:ORACLE_ROWS]
        result = result.reshape(-1, n)[:ORACLE_ROWS][:, columns]
        if a.get("residual") is not None:
            a["residual"] = a["residual"].reshape(-1, n)[:ORACLE_ROWS][:, columns]
        for name in ("w", "scales", "biases", "bias"):
            if a.get(name) is not None:
                a[name] = a[name][columns]
    elif operation == "conv1d":
        frames, width = min(ORACLE_FRAMES, result.shape[1]), a["w"].shape[1]
        a["x"], result = a["x"][:, : (frames - 1) * a["stride"] + width], result[:, :frames]
        if a.get("residual") is not None:
            a["residual"] = a["residual"][:, :frames]
    elif operation == "conv_transpose1d":
        frames = min(ORACLE_FRAMES, a["x"].shape[1])
        a["x"] = a["x"][:, :frames]
        samples = frames * a["stride"]
        return oracle.conv_transpose1d(**a)[:, :samples], result[:, :samples]
    elif operation == "lstm":
        frames = min(ORACLE_FRAMES, a["x"].shape[1])
        a["x"], result = a["x"][:, :frames], result[:, :frames]
        return oracle.lstm(**a)[0], result
    elif operation in ("prefix_attention", "attention"):
        heads = min(2, a["q"].shape[1])
        a = {k: v[:, :heads] if isinstance(v, mx.array) and v.ndim == 4 else v for k, v in a.items()}
        result = result[:, :heads]
    return getattr(oracle, operation)(**a), result


def _normal(rng: np.random.Generator, *shape: int, std: float = 1.0) -> mx.array:
    return mx.array(rng.standard_normal(shape, dtype=np.float32) * std).astype(mx.float16)


def packed(rng: np.random.Generator, n: int, k: int, bits: int, group_size: int) -> Arguments:
    """Return a quantized [n, k] matrix with entries of about 1/sqrt(k), every bit pattern among them."""
    scales = rng.uniform(0.5, 1.5, (n, k // group_size)).astype(np.float32) * 6 / (2**bits - 1) / math.sqrt(k)
    return {
        "w": mx.array(rng.integers(0, 2**32, (n, k * bits // 32), dtype=np.uint32)),
        "scales": mx.array(scales).astype(mx.float16),
        "biases": mx.array(-scales * (2**bits - 1) / 2).astype(mx.float16),
        "bits": bits,
        "group_size": group_size,
    }


def _norm(rng: np.random.Generator, k: int) -> Norm:
    return Norm(1 + _normal(rng, k, std=0.1), _normal(rng, k, std=0.1))


def matmul(
    name: str,
    m: int,
    n: int,
    k: int,
    *,
    bits: int = 4,
    group_size: int = 64,
    norm: bool = False,
    gelu: bool = False,
    residual: bool = False,
    quick: bool = False,
) -> Case:
    """Return a packed product."""

    def make(rng: np.random.Generator) -> Arguments:
        arguments: Arguments = {"x": _normal(rng, m, k)} | packed(rng, n, k, bits, group_size)
        if norm:
            arguments["norm"] = _norm(rng, k)
        if residual:
            arguments["residual"] = _normal(rng, m, n)
        return arguments | ({"activation": "gelu"} if gelu else {})

    title = f"int4_matmul {name} M={m} N={n} K={k}{'' if bits == 4 else f' {bits} bits'}"
    bare = not (norm or gelu or residual)
    return Case(title, "int4_matmul", make, 2.0 * m * n * k, ("w", "scales", "biases"), quick, m if bare else 0)


def linear(name: str, m: int, n: int, k: int, *, norm: bool = False, quick: bool = False) -> Case:
    """Return a dense product."""

    def make(rng: np.random.Generator) -> Arguments:
        arguments: Arguments = {"x": _normal(rng, m, k), "w": _normal(rng, n, k, std=1 / math.sqrt(k))}
        return arguments | ({"norm": _norm(rng, k)} if norm else {})

    return Case(f"linear {name} M={m} N={n} K={k}", "linear", make, 2.0 * m * n * k, ("w",), quick)


def prefix_attention(
    name: str,
    rows: int,
    heads: int,
    dim: int,
    *,
    length: int,
    slots: int,
    prefix: int,
    steps: int = 1,
    quick: bool = False,
) -> Case:
    """Gated prefix attention of guidance pairs: `rows` / 2 prefixes."""
    shared = max(1, rows // 2)

    def make(rng: np.random.Generator) -> Arguments:
        cache = _normal(rng, 2, rows, heads, slots, dim)
        k, v = mx.split(cache, 2)
        return {
            "q": _normal(rng, rows, heads, steps, dim),
            "k": k.squeeze(0),
            "v": v.squeeze(0),
            "prefix_q": _normal(rng, shared, heads, steps, dim),
            "prefix_k": _normal(rng, shared, heads, prefix, dim),
            "prefix_v": _normal(rng, shared, heads, prefix, dim),
            "gate": mx.array([0.7]),
            "scale": dim**-0.5,
            "length": length,
        }

    flops = 4.0 * rows * heads * steps * dim * (length + prefix)
    title = f"prefix_attention {name} B={rows} H={heads} T={steps} S={length} P={prefix} D={dim}"
    return Case(title, "prefix_attention", make, flops, ("k", "v", "prefix_k", "prefix_v"), quick)


def cross_attention(rows: int, heads: int, dim: int, *, text: int, quick: bool = False) -> Case:
    """Attention to the text of guidance pairs, its query projection within."""
    model = heads * dim

    def make(rng: np.random.Generator) -> Arguments:
        given = max(1, rows // 2)
        return {
            "x": _normal(rng, rows, 1, model),
            "k": _normal(rng, given, heads, text, dim),
            "v": _normal(rng, given, heads, text, dim),
            "scale": dim**-0.5,
            "norm": _norm(rng, model),
        } | packed(rng, model, model, 4, 64 if model % 64 == 0 else 32)

    flops = 2.0 * max(1, rows // 2) * model * (model + 2 * text)
    title = f"cross_attention M={rows} N={model} K={model} S={text}"
    return Case(title, "cross_attention", make, flops, ("w", "scales", "biases", "k", "v"), quick)


def attention(rows: int, heads: int, dim: int, frames: int) -> Case:
    """Return the adapter's causal attention."""

    def make(rng: np.random.Generator) -> Arguments:
        q, k, v = (_normal(rng, rows, heads, frames, dim) for _ in range(3))
        return {"q": q, "k": k, "v": v, "scale": dim**-0.5, "mask": "causal"}

    title = f"attention causal B={rows} H={heads} T={frames} D={dim}"
    return Case(title, "attention", make, 2.0 * rows * heads * dim * frames * frames, ("q", "k", "v"))


def conv(channels: int, out: int, width: int, stride: int, frames: int, *, transposed: bool = False) -> Case:
    """Return a convolution of the codec over one second of audio, or its transposed counterpart."""
    operation = "conv_transpose1d" if transposed else "conv1d"
    length = frames if transposed else (frames - 1) * stride + width

    def make(rng: np.random.Generator) -> Arguments:
        std = 1 / math.sqrt(channels * width)
        return {
            "x": _normal(rng, 1, length, channels),
            "w": _normal(rng, out, width, channels, std=std),
            "bias": _normal(rng, out),
            "stride": stride,
            "elu": True,
        }

    title = f"{operation} {channels} to {out} k={width} stride={stride} L={length}"
    return Case(title, operation, make, 2.0 * frames * channels * out * width, ("x", "w"), quick=transposed)


def lstm(channels: int, frames: int) -> Case:
    """One layer of the codec's LSTM over one second."""

    def make(rng: np.random.Generator) -> Arguments:
        std = 1 / math.sqrt(channels)
        maps = {name: _normal(rng, 4 * channels, channels, std=std) for name in ("w_ih", "w_hh")}
        return {"x": _normal(rng, 1, frames, channels), "bias": _normal(rng, 4 * channels, std=0.1)} | maps

    title = f"lstm C={channels} L={frames}"
    return Case(title, "lstm", make, 2.0 * frames * 8 * channels * channels, ("w_ih", "w_hh"))


def cases(lm: LMConfig, codec: CodecConfig, *, group_size: int = 64, frames: int = 250) -> list[Case]:
    """Every operation at a model's decode, prefill and codec shapes, then awkward ones."""
    d, f, heads, dim, g = lm.dim, lm.ffn, lm.heads, lm.head_dim, group_size
    width = codec.n_filters * 2 ** len(codec.ratios)
    ratio = codec.ratios[0]
    return [
        matmul("qkv", 2, 3 * d, d, group_size=g, norm=True, quick=True),
        matmul("out", 2, d, d, group_size=g, residual=True),
        matmul("up", 2, f, d, group_size=g, norm=True, gelu=True),
        matmul("down", 2, d, f, group_size=g, residual=True, quick=True),
        matmul("qkv", 1, 3 * d, d, group_size=g),
        matmul("qkv", 8, 3 * d, d, group_size=g),
        matmul("qkv", 2, 3 * d, d, group_size=g, bits=8),
        linear("heads", 2, lm.codebooks * lm.card, d, norm=True, quick=True),
        cross_attention(2, heads, dim, text=12, quick=True),
        prefix_attention("mid-clip", 2, heads, dim, length=125, slots=253, prefix=251, quick=True),
        prefix_attention("10 s", 2, heads, dim, length=503, slots=503, prefix=501),
        matmul("qkv prefill", frames + 1, 3 * d, d, group_size=g),
        linear("merge prefill", frames + 1, d, d),
        attention(1, heads, dim, frames + 1),
        conv(width // 2, width, 2 * ratio, ratio, 50),
        conv(codec.n_filters, codec.n_filters // 2, 3, 1, 32000),
        conv(width, width // 2, 2 * ratio, ratio, 50, transposed=True),
        lstm(width, 50),
        matmul("awkward", 3, 2 * d // 3 | 1, 33 * g, group_size=g, norm=True),
        matmul("awkward", 5, 77, 3 * g, group_size=g, residual=True, quick=True),
        prefix_attention("awkward", 2, 3, 48, length=1, slots=7, prefix=13),
        prefix_attention("awkward", 6, heads, dim, length=77, slots=101, prefix=333),
    ]
