"""An edit with what made it: to save with tags, and to look at and listen to in a notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from .. import audio
from ..config import FRAME_RATE, SAMPLE_RATE
from ..instructions import trained
from . import edit_record as records
from .edit_record import EditRecord
from .page import Sound, page

if TYPE_CHECKING:
    from ..pipeline import Array, InstructMusicGen
    from ..progress import Progress


@dataclass(frozen=True)
class Edited:
    """An edited clip: float32 `samples` [n] at `rate` Hz, and how it was made. Jupyter shows it with its input."""

    samples: audio.Samples
    rate: int
    made: EditRecord
    before: audio.Samples | None = None
    """The input [n] at `rate` Hz."""
    scores: Mapping[str, float] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str], *, normalize: bool = False) -> audio.Saved:
        """Write it as `audio.save` does, with tags that say how it was made."""
        return audio.save(path, self.samples, self.rate, normalize=normalize, tags=self.tags())

    def tags(self) -> dict[str, str]:
        """Return the tags of a file with these samples."""
        return self.made.sized(len(self.samples)).tags()

    def _repr_html_(self) -> str:
        """Show players and spectrograms of the input and the edit."""
        sounds = [] if self.before is None else [Sound(f"input {self.made.input}".strip(), self.before, self.rate)]
        told = ", ".join(f"{name} {value:.3g}" for name, value in self.scores.items())
        caption = f"{self.made.sentence} (seed {self.made.seed}{'; ' + told if told else ''})"
        return page([*sounds, Sound(caption, self.samples, self.rate)])


def edit(
    model: InstructMusicGen, clip: str | os.PathLike[str] | audio.Clip | Array, text: str, *, seed: int = 0,
    window_frames: int | None = None, progress: Progress | None = None, **sampling: Any,
) -> Edited:  # fmt: skip
    """Edit a file, a loaded clip or samples [n] at 32 kHz as `text` says: an everyday sentence or a trained one.

    `sampling`: temperature, top_k, top_p, guidance, greedy, max_steps, as of `InstructMusicGen.generate`, whose
    samples these are, and whose errors it raises.
    """
    source, samples = taken(clip)
    said = trained(text, model.bundle.config.instructions)
    out = model.generate(said, samples, seed=seed, window_frames=window_frames, progress=progress, **sampling)
    options = {**sampling, "window": None if window_frames is None else window_frames / FRAME_RATE}
    made = records.of(model, said, seed, source=source, options=options)
    return Edited(np.array(out, np.float32), SAMPLE_RATE, made, np.array(samples, np.float32))


def taken(clip: str | os.PathLike[str] | audio.Clip | Array) -> tuple[Path | None, Array]:
    """Return the file that a clip comes from, if it is known, and its samples [n] at 32 kHz."""
    if isinstance(clip, str | os.PathLike):
        return Path(clip), mx.array(audio.load(clip).samples)
    return None, clip.samples if isinstance(clip, audio.Clip) else clip
