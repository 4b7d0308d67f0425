"""Was an instrument added? A logistic regression a stem, on how statistics of a log-mel change from before to after.

An absolute "is it heard?" fires on many inputs already: a mix has bass-like energy without a bass. The change is what
an added part makes. The threshold is the 10th percentile of true additions, so nine in ten of them pass; beside it the
judge measures how many unedited inputs, and additions of other stems, fail it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ....spectra import Array

Floats = npt.NDArray[np.float64]
PERCENTILE = 10.0


def features(spectrum: Array) -> Floats:
    """Compute mean, spread, two percentiles, rise and slow change of each band of a log-mel [80,frames]."""
    level = spectrum.astype(np.float64)
    change = np.diff(level, axis=1)
    parts = (
        level.mean(axis=1), level.std(axis=1), np.percentile(level, 90, axis=1), np.percentile(level, 10, axis=1),
        np.maximum(0, change).mean(axis=1), np.abs(change[:, 1:] + change[:, :-1]).mean(axis=1),
    )  # fmt: skip
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Presence:
    """The four regressions over changes of features, in units of their spread."""

    spread: Floats
    weights: Floats
    bias: Floats

    def __call__(self, before: Array, after: Array) -> Floats:
        """Estimate from two log-mels [80,frames] the log-odds that drums, bass, piano and guitar were added."""
        return np.asarray(self.weights @ ((features(after) - features(before)) / self.spread) + self.bias)


def fit(songs: Sequence[dict[int, Array]], rounds: int = 400, decay: float = 0.03) -> Presence:
    """Fit to songs, each some mixtures' log-mels by mask of stems, by gradient descent with momentum.

    Every ordered pair of a song's mixtures is an example: a stem was added if only the second has it.
    """
    changes, added = [], []
    for song in songs:
        known = {mask: features(spectrum) for mask, spectrum in song.items()}
        for before, first in known.items():
            for after, second in known.items():
                if after != before:
                    changes.append(second - first)
                    added.append([bool(after & ~before & 1 << stem) for stem in range(4)])
    x, y = np.stack(changes), np.array(added, dtype=np.float64)
    spread = np.sqrt((x**2).mean(axis=0)) + 1e-6
    x = x / spread
    weights, bias = np.zeros((4, x.shape[1])), np.zeros(4)
    speed_w, speed_b = np.zeros_like(weights), np.zeros_like(bias)
    for _ in range(rounds):
        error = 1 / (1 + np.exp(-(x @ weights.T + bias))) - y
        speed_w = 0.9 * speed_w + error.T @ x / len(x) + decay * weights
        speed_b = 0.9 * speed_b + error.mean(axis=0)
        weights, bias = weights - 0.05 * speed_w, bias - 0.05 * speed_b
    return Presence(spread, weights, bias)


def threshold(true_additions: Floats) -> float:
    """Return the log-odds that nine in ten true additions reach."""
    return float(np.percentile(true_additions, PERCENTILE))
