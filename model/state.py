"""The self-attention keys and values of the positions generated so far."""

from __future__ import annotations

import mlx.core as mx


def unstack(x: mx.array) -> tuple[mx.array, ...]:
    """The parts of x along its first axis, as views (an integer index would copy them)."""
    return tuple(part.squeeze(0) for part in mx.split(x, x.shape[0]))


class KVCache:
    """One layer's keys and values, allocated once for all positions of a window.

    Both live in one array [2,B,H,S,D], so that a step writes them with one update. The prefix is not in it.
    """

    def __init__(self, rows: int, heads: int, slots: int, head_dim: int, dtype: mx.Dtype) -> None:
        self.kv = mx.zeros((2, rows, heads, slots, head_dim), dtype=dtype)

    def write(self, kv: mx.array, position: int) -> tuple[mx.array, mx.array]:
        """Put kv [2,B,H,T,D] at `position`; gives all slots, k and v [B,H,S,D]. Slots not yet written hold zeros."""
        return self.write_rows(slice(None), kv, position)

    def write_rows(self, rows: slice, kv: mx.array, position: int) -> tuple[mx.array, mx.array]:
        """As `write`, of some rows only."""
        self.kv[:, rows, :, position : position + kv.shape[3]] = kv
        k, v = unstack(self.kv[:, rows])
        return k, v


class CacheRows:
    """Some rows of a layer's cache, to write to and attend to as if there were no others."""

    def __init__(self, cache: KVCache, rows: slice) -> None:
        self._cache, self._rows = cache, rows

    def write(self, kv: mx.array, position: int) -> tuple[mx.array, mx.array]:
        """As `KVCache.write`."""
        return self._cache.write_rows(self._rows, kv, position)
