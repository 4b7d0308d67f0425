"""Choosing the next token of each codebook, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .. import checks

MIN_TEMPERATURE = 1e-30
"""Lower temperatures count as this one, at which only the most probable token is left; float32 can hold it."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: the most probable one at temperature 0 or with `greedy`, else drawn.

    top_p, if above 0, takes precedence over top_k.
    """

    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    greedy: bool = False

    def __post_init__(self) -> None:
        for name, value in (
            ("temperature", checks.number("temperature", self.temperature, 0)),
            ("top_k", checks.whole("top_k", self.top_k, 0)),
            ("top_p", checks.number("top_p", self.top_p, 0, 1)),
            ("greedy", bool(self.greedy)),
        ):
            object.__setattr__(self, name, value)

    def __call__(self, logits: mx.array, key: mx.array) -> mx.array:
        """Choose tokens int32 [...] by logits float32 [..., card].

        key: uint32 [2] for all, or [B,2], one for each row of the first axis: then a row's tokens depend on its own
        logits and key alone. The same key gives the same tokens.
        """
        if self.greedy or self.temperature == 0:
            return mx.argmax(logits, axis=-1).astype(mx.int32)
        # The largest is taken off first: divided by a small temperature it would overflow to infinity, and to NaN.
        relative = logits - logits.max(axis=-1, keepdims=True)
        probabilities = mx.softmax(relative / max(self.temperature, MIN_TEMPERATURE), axis=-1)
        if self.top_p > 0:
            order, kept = nucleus(probabilities, self.top_p)
            choice = _drawn(kept, key)
            return mx.take_along_axis(order, choice[..., None], axis=-1)[..., 0].astype(mx.int32)
        if 0 < self.top_k < logits.shape[-1]:
            probabilities = top_k(probabilities, self.top_k)
        return _drawn(probabilities, key)


def row_keys(seeds: Sequence[int], window: int, positions: int) -> mx.array:
    """Derive the keys of a window's positions from each row's seed: uint32 [positions, B, 2].

    A key follows from seed, window and position alone: not from the length of the clip, the number of windows or the
    rows beside it.
    """
    words = [
        [np.random.SeedSequence(seed, spawn_key=(window, position)).generate_state(2) for seed in seeds]
        for position in range(positions)
    ]
    return mx.array(np.array(words, dtype=np.uint32))


def _drawn(probabilities: mx.array, key: mx.array) -> mx.array:
    """Draw int32 [...] from probabilities [..., card], which need not add up to 1: the largest of log p + Gumbel."""
    if key.ndim == 1:
        noise = mx.random.gumbel(probabilities.shape, key=key)
    else:
        rows = range(probabilities.shape[0])
        noise = mx.stack([mx.random.gumbel(probabilities.shape[1:], key=key[row]) for row in rows])
    return mx.argmax(mx.log(probabilities) + noise, axis=-1).astype(mx.int32)


def top_k(probabilities: mx.array, k: int) -> mx.array:
    """Keep the tokens at least as probable as the k-th (ties too, as upstream), and normalize."""
    threshold = mx.min(mx.topk(probabilities, k, axis=-1), axis=-1, keepdims=True)
    kept = mx.where(probabilities >= threshold, probabilities, 0.0)
    return kept / kept.sum(axis=-1, keepdims=True)


def nucleus(probabilities: mx.array, p: float) -> tuple[mx.array, mx.array]:
    """Return the smallest set of most probable tokens whose mass is at least p: their order, and probabilities.

    As upstream: a token stays while the mass before it is at most p; the others get 0.
    """
    order = mx.argsort(-probabilities, axis=-1)
    falling = mx.take_along_axis(probabilities, order, axis=-1)
    before = mx.cumsum(falling, axis=-1) - falling
    kept = mx.where(before > p, 0.0, falling)
    return order, kept / kept.sum(axis=-1, keepdims=True)
