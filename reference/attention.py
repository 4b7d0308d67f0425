"""Attention: gated prefix attention, attention to the text, and plain attention."""

from __future__ import annotations

from typing import Literal

import mlx.core as mx

from .arguments import check_cross_attention, check_prefix_attention
from .contract import Epilogue, Norm, Packed, Prefix
from .matmul import int4_matmul
from .precision import widened


def attention(
    q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: mx.array | Literal["causal"] | None = None
) -> mx.array:
    """Compute softmax(scale · q k^T + mask) v; see `reference.contract.Ops.attention`."""
    out = mx.fast.scaled_dot_product_attention(widened(q), widened(k), widened(v), scale=scale, mask=mask)
    return out.astype(q.dtype)


def _cached(q: mx.array, k: mx.array, v: mx.array, scale: float, length: int | mx.array) -> mx.array:
    """Attend causally with the last T of `length` positions to a cache that may be longer."""
    steps, slots = q.shape[2], k.shape[2]
    if isinstance(length, int):
        mask: mx.array | Literal["causal"] | None = "causal" if steps > 1 else None
        return attention(q, k[:, :, :length], v[:, :, :length], scale=scale, mask=mask)
    position = length.reshape(()) - steps + mx.arange(steps)
    slot = mx.arange(slots)
    visible = slot[None] <= position[:, None]
    # An unused slot may hold NaN, which 0 · NaN would carry into the sum: clear its value, not only its score.
    v = mx.where((slot < length.reshape(()))[:, None], v, mx.zeros((), dtype=v.dtype))
    scores = mx.where(visible, (widened(q) @ widened(k).swapaxes(-1, -2)).astype(mx.float32) * scale, -mx.inf)
    return (mx.softmax(scores, axis=-1, precise=True) @ widened(v)).astype(q.dtype)


def prefix_attention(
    q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float, length: int | mx.array
) -> mx.array:
    """Compute SDPA(q, k[:length], v[:length]) + gate · SDPA(q + prefix_q, prefix_k, prefix_v), two separate softmaxes.

    See `reference.contract.Ops.prefix_attention`; Instruct-MusicGen (arXiv 2405.18386), section 3.2.
    """
    check_prefix_attention(q, k, v, prefix, length)
    rows, heads, steps, dim = q.shape
    shared = prefix.q.shape[0]
    wide = widened(q)
    main = _cached(wide, k, v, scale, length)
    # Rows that share a prefix attend to it together, as further queries of one row.
    pairs = (wide.reshape(-1, shared, heads, steps, dim) + widened(prefix.q)).transpose(1, 2, 0, 3, 4)
    injected = attention(pairs.reshape(shared, heads, -1, dim), prefix.k, prefix.v, scale=scale)
    injected = injected.reshape(shared, heads, rows // shared, steps, dim).transpose(2, 0, 1, 3, 4)
    return (main + prefix.gate * injected.reshape(q.shape)).astype(q.dtype)


def cross_attention(x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm | None) -> mx.array:
    """Project the queries and attend to the text, 0 for rows without text; see `reference.contract.Ops`."""
    weight = weight.plain()
    check_cross_attention(x, weight, k, v, norm)
    text_rows, heads, _, dim = k.shape
    steps = x.shape[1]
    q = int4_matmul(x[:text_rows], weight, norm, Epilogue())
    q = q.reshape(text_rows, steps, heads, dim).transpose(0, 2, 1, 3)
    out = attention(q, k, v, scale=scale).transpose(0, 2, 1, 3).reshape(text_rows, steps, heads * dim)
    return mx.concatenate([out, mx.zeros((x.shape[0] - text_rows, steps, heads * dim), dtype=x.dtype)])
