"""Every operation of `reference.contract.Ops` again, in float64 numpy: what the tests hold all backends against.

Nothing here shares code with MLX or with the backends: the packed weights are taken apart by shifts written out below,
softmax, convolution and LSTM are the textbook sums. So a mistake shared by two backends cannot cancel. Slow; for tests.
Arguments are those of the contract (MLX or numpy arrays); results are float64.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from .contract import Prefix

Float64 = npt.NDArray[np.float64]
Array = mx.array | npt.NDArray[Any]
Norm = tuple[Array, Array, float]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def float64(a: Array | float) -> Float64:
    """Return `a` as float64 without rounding (numpy knows no bfloat16; float32 holds it exactly)."""
    if isinstance(a, mx.array):
        a = np.array(a.astype(mx.float32))
    return np.asarray(a, dtype=np.float64)


def unpack(w: Array, bits: int) -> npt.NDArray[np.int64]:
    """Return the integers in packed words: w uint32 [N, K·bits/32] -> [N, K].

    Element 0 sits in the lowest bits of word 0.
    """
    words = np.array(w).astype(np.int64)
    per_word = 32 // bits
    out = np.empty((words.shape[0], words.shape[1] * per_word), dtype=np.int64)
    for i in range(per_word):
        out[:, i::per_word] = (words >> (i * bits)) & (2**bits - 1)
    return out


def dequantize(w: Array, scales: Array, biases: Array, *, group_size: int, bits: int) -> Float64:
    """Compute scale · integer + bias [N, K], where `group_size` neighbors along K share a scale and a bias."""
    q = unpack(w, bits).astype(np.float64)
    out = np.empty_like(q)
    s, b = float64(scales), float64(biases)
    for g in range(q.shape[1] // group_size):
        part = slice(g * group_size, (g + 1) * group_size)
        out[:, part] = s[:, g, None] * q[:, part] + b[:, g, None]
    return out


def gelu(x: Float64) -> Float64:
    """Compute x · Phi(x), with Phi from erf."""
    return np.asarray(0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))), dtype=np.float64)


def layer_norm(x: Float64, norm: Norm) -> Float64:
    """Compute (x - mean) / sqrt(var + eps) · weight + bias over the last axis."""
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = (centered**2).mean(axis=-1, keepdims=True)
    return np.asarray(centered / np.sqrt(variance + norm[2]) * float64(norm[0]) + float64(norm[1]), dtype=np.float64)


def linear(
    x: Array,
    w: Array,
    *,
    bias: Array | None = None,
    activation: str | None = None,
    residual: Array | None = None,
    norm: Norm | None = None,
) -> Float64:
    """Compute residual + activation(norm(x) · w^T + bias) with w [N, K]."""
    wide = float64(x)
    y = (wide if norm is None else layer_norm(wide, norm)) @ float64(w).T
    if bias is not None:
        y = y + float64(bias)
    if activation == "gelu":
        y = gelu(y)
    return np.asarray(y if residual is None else float64(residual) + y, dtype=np.float64)


def int4_matmul(
    x: Array,
    w: Array,
    scales: Array,
    biases: Array,
    *,
    group_size: int = 64,
    bits: int = 4,
    bias: Array | None = None,
    activation: str | None = None,
    residual: Array | None = None,
    norm: Norm | None = None,
) -> Float64:
    """Compute `linear` with the weights of a packed matrix."""
    dense = dequantize(w, scales, biases, group_size=group_size, bits=bits)
    return linear(x, dense, bias=bias, activation=activation, residual=residual, norm=norm)


def softmax(scores: Float64) -> Float64:
    """Compute softmax over the last axis; a score of -inf hides its key."""
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True), dtype=np.float64)


def attention(q: Array, k: Array, v: Array, *, scale: float, mask: Array | str | None = None) -> Float64:
    """Compute softmax(scale · q k^T + mask) v; a causal mask aligns the last query with the last key."""
    q, k, v = float64(q), float64(k), float64(v)
    scores = np.einsum("bhtd,bhsd->bhts", q, k) * scale
    steps, keys = scores.shape[-2:]
    if isinstance(mask, str):
        for t in range(steps):
            scores[:, :, t, keys - steps + t + 1 :] = -np.inf
    elif mask is not None:
        scores = scores + float64(mask)
    return np.asarray(np.einsum("bhts,bhsd->bhtd", softmax(scores), v), dtype=np.float64)


def prefix_attention(
    q: Array,
    k: Array,
    v: Array,
    prefix_q: Array,
    prefix_k: Array,
    prefix_v: Array,
    gate: Array | float,
    *,
    scale: float,
    length: int,
) -> Float64:
    """Compute SDPA(q, k[:length], v[:length]) + gate · SDPA(q + prefix_q, prefix_k, prefix_v), a row at a time."""
    q, k, v = float64(q), float64(k)[:, :, :length], float64(v)[:, :, :length]
    pq, pk, pv = float64(prefix_q), float64(prefix_k), float64(prefix_v)
    g = float(float64(gate).reshape(()))
    out = np.empty(q.shape)
    for b in range(q.shape[0]):
        row, shared = slice(b, b + 1), slice(b % pq.shape[0], b % pq.shape[0] + 1)
        out[row] = attention(q[row], k[row], v[row], scale=scale, mask="causal")
        out[row] += g * attention(q[row] + pq[shared], pk[shared], pv[shared], scale=scale)
    return out


def self_attention(
    qkv: Array,
    cache: mx.array,
    position: int,
    prefix: Prefix | None = None,
    *,
    scale: float,
    rows: slice = slice(None),
    query_row: int = 0,
) -> tuple[Float64, Float64]:
    """Put keys and values, rounded to the cache's dtype, into the cache, and attend to all that it holds then."""
    q, k, v, kept = cached(qkv, cache, position, rows)
    length = position + q.shape[2]
    if prefix is None:
        out = attention(q, k[:, :, :length], v[:, :, :length], scale=scale, mask="causal")
    else:
        own = prefix._replace(q=prefix.q[:, :, query_row : query_row + q.shape[2]])
        out = prefix_attention(q, k, v, *own, scale=scale, length=length)
    return out.transpose(0, 2, 1, 3).reshape(qkv.shape[0], qkv.shape[1], -1), kept


def cached(qkv: Array, cache: mx.array, position: int, rows: slice) -> tuple[Float64, Float64, Float64, Float64]:
    """Return the queries, the keys and values that the rows in use attend to, and the cache with the new ones in it.

    q [b,H,T,D]; k, v [b,H,S,D]; cache [2,B,H,S,D].
    """
    heads, dim = cache.shape[2], cache.shape[4]
    parts = float64(qkv).reshape(*qkv.shape[:2], 3, heads, dim).transpose(2, 0, 3, 1, 4)
    kept = float64(cache).copy()
    fresh = float64(mx.array(parts[1:].astype(np.float32)).astype(cache.dtype))
    kept[:, rows, :, position : position + qkv.shape[1]] = fresh
    return parts[0], kept[0, rows], kept[1, rows], kept


def cross_attention(
    x: Array,
    w: Array,
    scales: Array,
    biases: Array,
    k: Array,
    v: Array,
    *,
    scale: float,
    group_size: int = 64,
    bits: int = 4,
    norm: Norm | None = None,
) -> Float64:
    """Compute SDPA(heads(norm(x) · dequant(w)^T), k, v); rows of x beyond those of k give 0."""
    k = float64(k)
    rows, heads, _, dim = k.shape
    y = int4_matmul(x, w, scales, biases, group_size=group_size, bits=bits, norm=norm)
    out = np.zeros_like(y)
    q = y[:rows].reshape(rows, y.shape[1], heads, dim).transpose(0, 2, 1, 3)
    out[:rows] = attention(q, k, v, scale=scale).transpose(0, 2, 1, 3).reshape(rows, y.shape[1], -1)
    return out


def _elu(x: Float64) -> Float64:
    """Return x where it is above 0, else exp(x) - 1."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def conv1d(
    x: Array, w: Array, bias: Array, *, stride: int = 1, elu: bool = False, residual: Array | None = None
) -> Float64:
    """Compute residual + conv(elu(x)) + bias, unpadded; x [B,L,C], w [N,k,C]."""
    wide = _elu(float64(x)) if elu else float64(x)
    kernel = float64(w)
    width = kernel.shape[1]
    frames = (wide.shape[1] - width) // stride + 1
    out = np.zeros((wide.shape[0], frames, kernel.shape[0]))
    for t in range(frames):
        out[:, t] = np.einsum("bkc,nkc->bn", wide[:, t * stride : t * stride + width], kernel)
    out = out + float64(bias)
    return out if residual is None else float64(residual) + out


def conv_transpose1d(x: Array, w: Array, bias: Array, *, stride: int, elu: bool = False) -> Float64:
    """Compute the full transposed convolution of elu(x), plus bias: each frame adds its k taps at t·stride."""
    wide = _elu(float64(x)) if elu else float64(x)
    kernel = float64(w)
    rows, frames, _ = wide.shape
    out = np.zeros((rows, (frames - 1) * stride + kernel.shape[1], kernel.shape[0]))
    for t in range(frames):
        out[:, t * stride : t * stride + kernel.shape[1]] += np.einsum("bc,nkc->bkn", wide[:, t], kernel)
    return out + float64(bias)


def lstm(x: Array, w_ih: Array, w_hh: Array, bias: Array, state: Array | None = None) -> tuple[Float64, Float64]:
    """Run one LSTM layer from a state [2,B,C] (zeros if None), gates in the order i, f, g, o."""
    wide, a, r, c = float64(x), float64(w_ih), float64(w_hh), float64(bias)
    rows, frames, size = wide.shape
    hidden, cell = np.zeros((2, rows, size)) if state is None else float64(state)
    out = np.empty((rows, frames, size))
    for t in range(frames):
        z = wide[:, t] @ a.T + hidden @ r.T + c
        i, f, g, o = (z[:, n * size : (n + 1) * size] for n in range(4))
        cell = cell / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        hidden = np.tanh(cell) / (1 + np.exp(-o))
        out[:, t] = hidden
    return out, np.stack([hidden, cell])
