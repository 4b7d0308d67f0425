"""Draw training windows and validation mixes from rendered songs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..music.library import load_songs
from ..workspace import Workspace

SUBSETS = tuple(tuple(stem for stem in range(4) if mask >> stem & 1) for mask in range(1, 16))
"""The fifteen mixtures of the four stems; entry m - 1 holds the stems whose bits are set in m."""

SPREAD = 6.0
"""Decibels that a stem's level moves up or down each time it is drawn."""


class Windows:
    """Draw random windows of random mixtures at random levels."""

    def __init__(self, work: Workspace, samples: int) -> None:
        self.work, self.samples = work, samples
        self.refresh()

    def refresh(self) -> None:
        """Look for songs that were rendered meanwhile."""
        self.chunks: Sequence[npt.NDArray[np.float16]] = load_songs(self.work, "train")

    def draw(self, rng: np.random.Generator, rows: int) -> npt.NDArray[np.float32]:
        """Return float32 [rows, 1, samples]."""
        out = np.zeros((rows, 1, self.samples), np.float32)
        for row in range(rows):
            chunk = self.chunks[int(rng.integers(len(self.chunks)))]
            song = chunk[int(rng.integers(len(chunk)))]
            start = int(rng.integers(song.shape[1] - self.samples + 1))
            for stem in SUBSETS[int(rng.integers(len(SUBSETS)))]:
                gain = 10 ** (rng.uniform(-SPREAD, SPREAD) / 20)
                out[row, 0] += gain * song[stem, start : start + self.samples].astype(np.float32)
            out[row] *= 10 ** (rng.uniform(-3, 1) / 20)
            peak = float(np.abs(out[row]).max())
            if peak > 1:
                out[row] /= peak
        return out


def validation(work: Workspace, name: str, songs: int) -> dict[str, npt.NDArray[np.float32]]:
    """Return the four stems and the mix of the first songs of a set, each float32 [songs, 1, samples]."""
    stems = np.concatenate([np.asarray(chunk[:songs]) for chunk in load_songs(work, name)])[:songs].astype(np.float32)
    names = ("drums", "bass", "piano", "guitar")
    return {**{name: stems[:, k : k + 1] for k, name in enumerate(names)}, "mix": stems.sum(axis=1, keepdims=True)}
