"""The codes of a clip, encoded as far as a window needs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import mlx.core as mx

from .windows import Window


class ClipCodes:
    """A batch's codes, and the special frame behind them, with which the adapter's input ends."""

    def __init__(self, parts: Iterable[mx.array], rows: int, frames: int, special: int) -> None:
        """Take codes as parts int32 [B,K,t], `frames` in all, one after the other, each read when it is needed."""
        self.rows, self.frames, self.special = rows, frames, special
        self._more, self._known = iter(parts), 0
        self._parts: list[mx.array] = []

    @classmethod
    def of(cls, codes: mx.array, special: int) -> ClipCodes:
        """Return codes [B,K,T] that are all there."""
        return cls([codes], codes.shape[0], codes.shape[2], special)

    def heard(self, window: Window, rows: Sequence[int]) -> mx.array:
        """Return what the adapter hears of a window in some rows: int32 [rows,K,frames + ahead + 1]."""
        start, stop = window.offset, window.stop + window.ahead + 1
        while self._known < min(stop, self.frames):
            self._parts.append(next(self._more))
            self._known += self._parts[-1].shape[2]
            if self._known == self.frames:
                self._parts.append(mx.full((self.rows, self._parts[0].shape[1], 1), self.special, dtype=mx.int32))
        found, at = [], 0
        for part in self._parts:
            if at < stop and at + part.shape[2] > start:
                found.append(part[:, :, max(start - at, 0) : stop - at])
            at += part.shape[2]
        return mx.concatenate(found, axis=2)[mx.array(list(rows))]
