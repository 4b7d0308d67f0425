"""Jumps of level and spectrum where windows meet, against the same places inside a window.

A clip is edited twice with the same windows, once with a first window that is shorter by half a stride: where windows
meet in one edit, the other goes on inside a window. Both edits are jumps of the same music, so that its own beats and
notes cancel out. A ratio of 1 means that a seam is no more of a jump than any other place.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from .. import spectra
from ..config import HOP, SAMPLE_RATE
from ..decoding.windows import Window, plan
from ..pipeline import InstructMusicGen
from ..progress import Progress

SIDE = SAMPLE_RATE // 10
"""Samples on each side of a place that are compared: 100 ms."""
QUIET = 1e-3
"""-60 dBFS: below it both sides count as silence, whose level is no jump."""
MEASURES = ("level", "spectrum")


@dataclass(frozen=True)
class WindowLayout:
    """A way to lay out windows, all in frames."""

    window: int
    stride: int
    ahead: int


@dataclass
class Seams:
    """One layout's mean jumps of each clip, in dB, at the seams and at the same places inside a window."""

    layout: WindowLayout
    seams: int
    steps: int
    """Steps of the whole clips, the delays repeated at seams included."""
    at: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURES})
    inside: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURES})

    def ratios(self, measure: str) -> list[float]:
        """Return each clip's ratio."""
        return [a / b for a, b in zip(self.at[measure], self.inside[measure]) if b > 0]


def shifted(total: int, layout: WindowLayout, by: int) -> list[Window]:
    """Lay out windows as if the clip had begun `by` frames earlier: the first one is as much shorter."""
    found = []
    for window in plan(total + by, layout.window, layout.stride, layout.ahead):
        cut = max(by - window.offset, 0)
        if window.frames > cut:
            own = Window(max(window.offset - by, 0), window.frames - cut, max(window.prompt - cut, 0), window.ahead)
            found.append(own)
    return found


def jumps(audio: npt.NDArray[np.float32], frame: int) -> dict[str, float] | None:
    """Return what changes between the 100 ms before a frame's beginning and those after it, in dB.

    level: of the power; spectrum: the mean difference of 80 mel bands. None where both sides are silent.
    """
    at = frame * HOP
    before, after = audio[max(at - SIDE, 0) : at], audio[at : at + SIDE]
    if len(before) < SIDE or len(after) < SIDE:
        return None
    levels = [float(np.sqrt(np.square(side, dtype=np.float64).mean())) for side in (before, after)]
    if max(levels) < QUIET:
        return None
    loud, soft = (20 * np.log10(max(level, QUIET)) for level in levels)
    bands = [spectra.log_mel(side).mean(axis=1) for side in (before, after)]
    return {"level": abs(loud - soft), "spectrum": float(np.abs(bands[0] - bands[1]).mean())}


def measure(
    model: InstructMusicGen, clips: Sequence[mx.array], text: str, layouts: Sequence[WindowLayout], seeds: int,
    progress: Progress | None = None,
) -> list[Seams]:  # fmt: skip
    """Edit each clip float32 [n] (32 kHz) twice per layout: with its windows, and shifted by half a stride.

    Return one `Seams` per layout; seeds are 0 to `seeds` - 1.
    """
    found, done, total = [], 0, len(layouts) * len(clips)
    coded = [model.encode(clip) for clip in clips]
    for layout in layouts:
        plans = [[shifted(c.shape[2], layout, by) for by in (0, layout.stride // 2)] for c in coded]
        own = Seams(layout, seeds * sum(len(p) - 1 for pair in plans for p in pair),
                    seeds * sum(w.steps for pair in plans for p in pair for w in p))  # fmt: skip
        for codes, pair in zip(coded, plans):
            _measure_clip(model, codes, text, pair, seeds, own)
            done += 1
            if progress is not None:
                progress(done, total)
        found.append(own)
    return found


def _measure_clip(
    model: InstructMusicGen, codes: mx.array, text: str, plans: Sequence[Sequence[Window]], seeds: int, into: Seams
) -> None:
    many = mx.repeat(codes, seeds, axis=0)
    sounds = [
        np.array(model.decode(model.edit_codes(many, text, plan=windows, seed=list(range(seeds))))) for windows in plans
    ]
    pairs = []
    for own, other in ((0, 1), (1, 0)):
        for window, seed in itertools.product(plans[own][:-1], range(seeds)):
            here, there = (jumps(sounds[which][seed], window.stop) for which in (own, other))
            if here is not None and there is not None:
                pairs.append((here, there))
    for name in MEASURES if pairs else ():
        into.at[name].append(float(np.mean([here[name] for here, _ in pairs])))
        into.inside[name].append(float(np.mean([there[name] for _, there in pairs])))
