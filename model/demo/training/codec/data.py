"""Draw training windows and validation mixes from rendered songs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..music.library import load_songs
from ..workspace import Workspace
from .codes import heard

SPREAD = 6.0
"""Decibels that a stem's level moves up or down each time it is drawn."""


class Windows:
    """Draw random windows of random mixtures at random levels.

    On a GPU all songs lie in its memory; on a CPU they stay mapped files.
    """

    def __init__(self, work: Workspace, samples: int, device: str = "cpu") -> None:
        self.work, self.samples, self.device = work, samples, device
        self.chunks: list[Tensor] = []
        self.refresh()

    def refresh(self) -> None:
        """Look for songs that were rendered meanwhile."""
        found = load_songs(self.work, "train")
        if len(found) == len(self.chunks):
            return
        new = [np.array(chunk) if self.device != "cpu" else chunk for chunk in found[len(self.chunks) :]]
        self.chunks += [torch.from_numpy(chunk).to(self.device) for chunk in new]
        self.ends = np.cumsum([len(chunk) for chunk in self.chunks])

    def draw(self, rng: np.random.Generator, rows: int) -> Tensor:
        """Return float32 [rows, 1, samples] on the device."""
        songs = rng.integers(self.ends[-1], size=rows)
        starts = rng.integers(self.chunks[0].shape[2] - self.samples + 1, size=rows)
        gains = heard(rng.integers(1, 16, size=rows)) * 10 ** (rng.uniform(-SPREAD, SPREAD, (rows, 4)) / 20)
        gains *= 10 ** (rng.uniform(-3, 1, (rows, 1)) / 20)
        chunks = np.searchsorted(self.ends, songs, side="right")
        windows = [
            self.chunks[chunk][song - self.ends[chunk], :, start : start + self.samples]
            for chunk, song, start in zip(chunks, songs, starts)
        ]
        levels = torch.tensor(gains, dtype=torch.float32).to(self.device)
        mixed = (torch.stack(windows).float() * levels[..., None]).sum(1, keepdim=True)
        return mixed / mixed.abs().amax((1, 2), keepdim=True).clamp(min=1)


def validation(work: Workspace, name: str, songs: int) -> dict[str, npt.NDArray[np.float32]]:
    """Return the four stems and the mix of the first songs of a set, each float32 [songs, 1, samples]."""
    stems = np.concatenate([np.asarray(chunk[:songs]) for chunk in load_songs(work, name)])[:songs].astype(np.float32)
    names = ("drums", "bass", "piano", "guitar")
    return {**{name: stems[:, k : k + 1] for k, name in enumerate(names)}, "mix": stems.sum(axis=1, keepdims=True)}
