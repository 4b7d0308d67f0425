"""A part of an edit, so that a slow column takes minutes, not hours: some steps, layers and audio."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import mlx.core as mx
import numpy as np

from model import audio
from model.config import HOP
from model.network.state import LayerPrefix

from ..variants import CLIP

PROBE_FRAMES = 10
"""Codec frames that a round encodes and decodes at least; the small round that is timed first has as many."""
MIN_STEPS = 3
"""Decode steps that a round measures at least, however slow they are."""


@dataclasses.dataclass(frozen=True)
class StageSubset:
    """The part of each divisible stage that a round runs: frames of the codec, layers of the adapter, decode steps."""

    frames: int
    layers: int
    steps: int


def affordable(
    seconds: Mapping[str, float], done: StageSubset, whole: StageSubset, limit: float, *, layers: int, steps: int
) -> StageSubset:
    """Return how much of each stage of the `whole` edit fits `limit` seconds.

    `seconds`: what `done` took, by stage. `layers`: those of one window's adapter, to which a part of all windows'
    layers is cut. `steps`: those that were asked for.
    """

    def fit(stage: str, part: int, all_: int, least: int) -> int:
        each = seconds[stage] / part
        return all_ if each * all_ <= limit else min(all_, max(least, int(limit / each)))

    frames = min(fit(stage, done.frames, whole.frames, PROBE_FRAMES) for stage in ("codec encode", "codec decode"))
    some = fit("adapter", done.layers, whole.layers, 1)
    some = some if some == whole.layers else min(some, layers)
    return StageSubset(frames, some, fit("steps", done.steps, steps, MIN_STEPS))


def repeat_prefixes(prefix: list[LayerPrefix], layers: int) -> list[LayerPrefix]:
    """Return prefixes for all layers. Missing ones are copies in memory of their own, which cost as much to read."""
    out = list(prefix)
    while len(out) < layers:
        source = prefix[len(out) % len(prefix)]
        out.append(LayerPrefix(source.q + 0, source.k + 0, source.v + 0, source.gate))
        mx.eval(out[-1].q, out[-1].k, out[-1].v)
    return out


def clip(frames: int, batch: int) -> mx.array:
    """Load the shipped clip, repeated to `frames` frames, each row shifted: float32 [batch, 640·frames] at 32 kHz."""
    tiled = np.resize(audio.load(CLIP).samples, frames * HOP)
    return mx.array(np.stack([np.roll(tiled, row * HOP) for row in range(batch)]))
