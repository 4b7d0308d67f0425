"""What a layer attends to: its own past, the text, and the clip's prefix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import mlx.core as mx

from reference.contract import Prefix


class TextKV(NamedTuple):
    """One layer's keys and values [B,H,L,D] of the text; the same at every step."""

    k: mx.array
    v: mx.array

    def rows(self, part: slice) -> TextKV:
        """Return the keys and values of some clips."""
        return TextKV(self.k[part], self.v[part])


class LayerPrefix(Prefix):
    """The adapter's prefix for one layer: q, k, v [B,H,n,D], and the raw scalar gate [1] of that attention."""

    __slots__ = ()

    def rows(self, part: slice) -> LayerPrefix:
        """Return the prefix of some clips."""
        return LayerPrefix(self.q[part], self.k[part], self.v[part], self.gate)


class KVCache:
    """One layer's keys and values, allocated once for all positions of a window.

    Both live in one array [2,B,H,S,D], so that a step writes them with one update. The prefix is not in it.
    """

    def __init__(self, rows: int, heads: int, slots: int, head_dim: int, dtype: mx.Dtype) -> None:
        self.kv = mx.zeros((2, rows, heads, slots, head_dim), dtype=dtype)


@dataclass
class LayerState:
    """The state of one layer from `position` on; `query_row` is the prefix's first query row in use."""

    cache: KVCache
    text: TextKV
    prefix: LayerPrefix | None = None
    position: int = 0
    query_row: int = 0
    rows: slice = field(default_factory=lambda: slice(None))
    """The cache's rows in use."""

    def of_clip(self, clip: int) -> LayerState:
        """Return the state of one clip's rows: its conditional one and, as many rows further down, the other."""
        part, clips = slice(clip, clip + 1), self.text.k.shape[0]
        prefix = None if self.prefix is None else self.prefix.rows(part)
        rows = slice(clip, None, clips)
        return LayerState(self.cache, self.text.rows(part), prefix, self.position, self.query_row, rows)
