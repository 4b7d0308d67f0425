"""Bounds on the distance of a backend's result from `reference.oracle`'s, operation by operation, by `tolerance`.

Each function takes the operation's arguments by name, as the contract has them, and gives a bound that broadcasts to
the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from . import oracle, tolerance
from .oracle import Float64

Arguments = Mapping[str, Any]


def bound(operation: str, a: Arguments, expected: Float64, activation_bits: int | None = None) -> Float64:
    """Return the bound of one call of an operation.

    `activation_bits` counts for packed products, as in `tolerance.product`.
    """
    if operation == "int4_matmul":
        return int4_matmul(a, activation_bits)
    if operation == "cross_attention":
        return cross_attention(a, activation_bits)
    if operation in ("conv1d", "conv_transpose1d"):
        return convolution(a, expected)
    others = {
        "linear": linear, "self_attention": self_attention, "prefix_attention": prefix_attention,
        "attention": attention, "lstm": lstm,
    }  # fmt: skip
    return others[operation](a)


def _packed(a: Arguments) -> tuple[Float64, Float64]:
    """Return the weights, and their magnitudes before scale · q and bias cancel each other."""
    packing = {"group_size": a.get("group_size", 64), "bits": a.get("bits", 4)}
    top = mx.full(a["w"].shape, 0xFFFFFFFF, dtype=mx.uint32)
    magnitude = oracle.dequantize(top, mx.abs(a["scales"]), mx.abs(a["biases"]), **packing)
    return oracle.dequantize(a["w"], a["scales"], a["biases"], **packing), magnitude


def _epilogue(a: Arguments) -> dict[str, Any]:
    return {name: a[name] for name in ("bias", "activation", "residual", "norm") if name in a}


def int4_matmul(a: Arguments, activation_bits: int | None = None) -> Float64:
    """Bound a packed product."""
    dense, magnitude = _packed(a)
    return tolerance.matmul(
        a["x"], dense, magnitude, dtype=a["x"].dtype, activation_bits=activation_bits, **_epilogue(a)
    )


def linear(a: Arguments) -> Float64:
    """Bound a dense product."""
    dense = oracle.float64(a["w"])
    return tolerance.matmul(a["x"], dense, np.abs(dense), dtype=a["x"].dtype, **_epilogue(a))


def prefix_attention(a: Arguments) -> Float64:
    """Bound both softmaxes, the gate and the sum."""
    q, k, v, pq, pk, pv, gate = (
        oracle.float64(a[n]) for n in ("q", "k", "v", "prefix_q", "prefix_k", "prefix_v", "gate")
    )
    dtype, scale, length = a["q"].dtype, a["scale"], int(np.array(a["length"]).item())
    pairs = q.shape[0] // pq.shape[0]
    pq, pk, pv = (np.tile(each, (pairs, 1, 1, 1)) for each in (pq, pk, pv))
    main = tolerance.attention(q, k[:, :, :length], v[:, :, :length], scale=scale, dtype=dtype)
    injected_q = np.abs(q) + np.abs(pq)
    injected = tolerance.attention(
        injected_q, pk, pv, scale=scale, dtype=dtype, q_error=tolerance.rounding(dtype, injected_q)
    )
    top = np.abs(v[:, :, :length]).max(axis=(-2, -1))[..., None, None]
    top_injected = np.abs(gate) * np.abs(pv).max(axis=(-2, -1))[..., None, None]
    total = main + np.abs(gate) * injected + tolerance.rounding(dtype, top, top_injected, top + top_injected)
    return np.asarray(total, dtype=np.float64)


def self_attention(a: Arguments) -> Float64:
    """Return one bound for all elements of the attention to a cache, the new keys in it, and to the prefix."""
    q, k, v, _ = oracle.cached(a["qkv"], a["cache"], a["position"], a.get("rows", slice(None)))
    steps, prefix, dtype = q.shape[2], a.get("prefix"), a["qkv"].dtype
    arguments = {"q": mx.array(q.astype(np.float32)).astype(dtype), "k": k, "v": v, "scale": a["scale"]}
    length = a["position"] + steps
    if prefix is None:
        seen = {"k": k[:, :, :length], "v": v[:, :, :length]}
        return np.asarray(attention({**arguments, **seen}).max())
    row = a.get("query_row", 0)
    parts = {"prefix_q": prefix.q[:, :, row : row + steps], "prefix_k": prefix.k, "prefix_v": prefix.v}
    return np.asarray(prefix_attention({**arguments, **parts, "gate": prefix.gate, "length": length}).max())


def cross_attention(a: Arguments, activation_bits: int | None = None) -> Float64:
    """Bound the projected attention to the text; exactly 0 for rows without text."""
    x, k, v, dtype, norm = a["x"], oracle.float64(a["k"]), oracle.float64(a["v"]), a["x"].dtype, a.get("norm")
    dense, magnitude = _packed(a)
    rows, heads, _, dim = k.shape
    q = oracle.linear(x, dense, norm=norm)
    error = tolerance.matmul(x, dense, magnitude, dtype=dtype, norm=norm, activation_bits=activation_bits)
    q, error = (each[:rows].reshape(rows, -1, heads, dim).transpose(0, 2, 1, 3) for each in (q, error))
    inside = tolerance.attention(q, k, v, scale=a["scale"], dtype=dtype, q_error=error)
    out = np.zeros((*x.shape[:2], heads * dim))
    out[:rows] = np.broadcast_to(inside, q.shape).transpose(0, 2, 1, 3).reshape(rows, x.shape[1], heads * dim)
    return out


def attention(a: Arguments) -> Float64:
    """Bound plain attention."""
    q, k, v = (oracle.float64(a[name]) for name in "qkv")
    dtype, mask = a["q"].dtype, a.get("mask")
    inside = tolerance.attention(q, k, v, scale=a["scale"], dtype=dtype)
    if isinstance(mask, mx.array):  # score and sum may be rounded once more
        seen = oracle.float64(mask)
        top = np.abs(np.where(seen > -1e4, seen, 0)).max() + 20
        inside = inside + 2 * np.abs(v).max() * tolerance.rounding(dtype, top)
    return inside


def convolution(a: Arguments, expected: Float64) -> Float64:
    """Bound a convolution, transposed or not: a sum of taps · C products with x and w rounded to x's dtype."""
    x, w, dtype = oracle.float64(a["x"]), oracle.float64(a["w"]), a["x"].dtype
    size = w.shape[1] * w.shape[2]
    x_norm = float(np.abs(x).max()) * size**0.5
    w_norm = float(np.sqrt((w**2).sum(axis=(1, 2)).max()))
    operands = tolerance.EPS[dtype] / size**0.5 * 2
    top = float(np.abs(expected).max())
    if a.get("residual") is not None:
        top += float(np.abs(oracle.float64(a["residual"])).max())
    inside = (tolerance.EPS32 * size**0.5 + operands) * x_norm * w_norm
    return np.asarray(tolerance.SIGMAS * inside + tolerance.rounding(dtype, top, top, top))


def lstm(a: Arguments) -> Float64:
    """Bound an LSTM: gates contract (|tanh'|, |sigmoid'| <= 1, forget < 1), so errors add up over few frames only."""
    size, frames, dtype = a["w_hh"].shape[1], a["x"].shape[1], a["x"].dtype
    step = tolerance.SIGMAS * (tolerance.EPS32 * size**0.5 + tolerance.EPS[dtype] * 4)
    return np.asarray(step * min(frames, 8))
