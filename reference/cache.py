"""The cache of keys and values that a decode step adds to."""

from __future__ import annotations

import mlx.core as mx

from .arguments import check_write_cache


def write_cache(cache: mx.array, kv: mx.array, position: int, rows: slice = slice(None)) -> mx.array:
    """Put keys and values at some positions of a cache; see `reference.contract.Ops.write_cache`."""
    check_write_cache(cache, kv, position, rows)
    cache[:, rows, :, position : position + kv.shape[3]] = kv
    return cache
