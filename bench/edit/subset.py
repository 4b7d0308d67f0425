"""Run a part of an edit, so that a slow column takes minutes, not hours: which steps, layers and audio."""

from __future__ import annotations

import dataclasses

import mlx.core as mx
import numpy as np

from model import audio
from model.config import HOP
from model.network.state import LayerPrefix

from ..variants import CLIP


@dataclasses.dataclass(frozen=True)
class StageSubset:
    """How much of each divisible stage a round runs: frames of the codec, layers of the adapter, decode steps."""

    frames: int
    layers: int
    steps: int


def repeat_prefixes(prefix: list[LayerPrefix], layers: int) -> list[LayerPrefix]:
    """Return prefixes for all layers: where some are missing, copies in memory of their own, as costly to read."""
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
