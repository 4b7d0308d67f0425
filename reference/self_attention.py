"""A layer's self-attention in the smaller operations of any backend."""

from __future__ import annotations

import sys
from typing import Any, cast

import mlx.core as mx

from .arguments import check_qkv
from .contract import Ops, Prefix
from .heads import merge_heads, stack_heads, unstack


def composed(
    ops: Ops,
    qkv: mx.array,
    cache: mx.array,
    position: int,
    prefix: Prefix | None,
    scale: float,
    rows: slice,
    query_row: int,
) -> tuple[mx.array, mx.array]:
    """Put keys and values into a cache and attend to it with `ops`; see `reference.contract.Ops.self_attention`."""
    check_qkv(qkv, cache, prefix, query_row)
    steps = qkv.shape[1]
    parts = stack_heads(qkv, cache.shape[2], cache.shape[4])
    q, length = parts[:1].squeeze(0), position + steps
    cache = ops.write_cache(cache, parts[1:], position, rows)
    k, v = unstack(cache[:, rows])
    if prefix is None:
        out = ops.attention(q, k[:, :, :length], v[:, :, :length], scale=scale, mask="causal")
    else:
        own = prefix._replace(q=prefix.q[:, :, query_row : query_row + steps])
        out = ops.prefix_attention(q, k, v, *own, scale=scale, length=length)
    return merge_heads(out), cache


def self_attention(*nouns: Any) -> tuple[mx.array, mx.array]:
    """Compute `composed` with the reference's own operations."""
    return composed(cast(Ops, sys.modules["reference"]), *nouns)
