"""Features to attention heads and back, as views."""

from __future__ import annotations

import mlx.core as mx


def stack_heads(x: mx.array, heads: int, head_dim: int) -> mx.array:
    """Reshape n maps side by side, [B,T,n·dim], to [n,B,H,T,D]."""
    return x.reshape(*x.shape[:2], -1, heads, head_dim).transpose(2, 0, 3, 1, 4)


def merge_heads(x: mx.array) -> mx.array:
    """Reshape [B,H,T,D] to [B,T,dim]."""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def unstack(x: mx.array) -> tuple[mx.array, ...]:
    """Return the parts of x along its first axis (an integer index would copy them)."""
    return tuple(part.squeeze(0) for part in mx.split(x, x.shape[0]))
