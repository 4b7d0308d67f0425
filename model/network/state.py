"""What a layer attends to: its own past, the text, and the clip's prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx

from reference.contract import Ops, Prefix

from .heads import unstack


class TextKV(NamedTuple):
    """One layer's keys and values [B,H,L,D] of the text; the same at every step."""

    k: mx.array
    v: mx.array

    def rows(self, part: slice) -> TextKV:
        """Return those of some clips."""
        return TextKV(self.k[part], self.v[part])


@dataclass(frozen=True)
class LayerPrefix:
    """What the adapter gives one layer: q, k, v [B,H,n,D], and the raw scalar gate [1] of that second attention."""

    q: mx.array
    k: mx.array
    v: mx.array
    gate: mx.array

    def at(self, row: int, steps: int) -> Prefix:
        """Return the prefix as it is attended to from `steps` positions, whose query rows begin at `row`."""
        return Prefix(self.q[:, :, row : row + steps], self.k, self.v, self.gate)

    def rows(self, part: slice) -> LayerPrefix:
        """Return the prefix of some clips."""
        return LayerPrefix(self.q[part], self.k[part], self.v[part], self.gate)


class KVCache:
    """One layer's keys and values, allocated once for all positions of a window.

    Both live in one array [2,B,H,S,D], so that a step writes them with one update. The prefix is not in it.
    """

    def __init__(self, ops: Ops, rows: int, heads: int, slots: int, head_dim: int, dtype: mx.Dtype) -> None:
        self.ops = ops
        self.kv = mx.zeros((2, rows, heads, slots, head_dim), dtype=dtype)

    def write(self, kv: mx.array, position: int, rows: slice | None = None) -> tuple[mx.array, mx.array]:
        """Put kv [2,B,H,T,D] at `position` of some rows, by default all.

        Returns all slots of those rows, k and v [B,H,S,D]. Slots not yet written hold zeros.
        """
        own = slice(None) if rows is None else rows
        self.kv = self.ops.write_cache(self.kv, kv, position, own)
        k, v = unstack(self.kv[:, own])
        return k, v


@dataclass
class LayerState:
    """What one layer attends to from `position` on; `query_row` is the first row of the prefix's queries in use."""

    cache: KVCache
    text: TextKV
    prefix: LayerPrefix | None = None
    position: int = 0
    query_row: int = 0
    rows: slice | None = None
    """The cache's rows in use; None: all."""

    def write(self, kv: mx.array) -> tuple[mx.array, mx.array]:
        """Put the keys and values of the positions that begin here into the cache; return all of it."""
        return self.cache.write(kv, self.position, self.rows)

    def prefix_at(self, steps: int) -> Prefix | None:
        """Return the prefix for the next `steps` positions, or None for a layer without."""
        return None if self.prefix is None else self.prefix.at(self.query_row, steps)

    def of_clip(self, clip: int) -> LayerState:
        """Return the state of one clip's rows: its conditional one and, as many rows further down, the other."""
        part, clips = slice(clip, clip + 1), self.text.k.shape[0]
        prefix = None if self.prefix is None else self.prefix.rows(part)
        rows = slice(clip, None, clips)
        return LayerState(self.cache, self.text.rows(part), prefix, self.position, self.query_row, rows)
