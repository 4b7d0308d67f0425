"""Is an instrument heard? A logistic regression a stem, on statistics of log-mels, trained on songs of training styles.

Its threshold is the 10th percentile of true mixes, so nine in ten of them pass; a judge of Add may rely on it only
where nine in ten of the unedited inputs fail, which is measured beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..spectra import Array, log_mel

Floats = npt.NDArray[np.float64]
PERCENTILE = 10.0


def features(spectrum: Array) -> Floats:
    """log-mel [80, frames] -> mean, spread, 90th percentile, rise and fall of each band, relative to the whole."""
    level = spectrum.astype(np.float64)
    change = np.diff(level, axis=1)
    parts = (
        level.mean(axis=1), level.std(axis=1), np.percentile(level, 90, axis=1), np.percentile(level, 10, axis=1),
        np.maximum(0, change).mean(axis=1), np.abs(change[:, 1:] + change[:, :-1]).mean(axis=1),
    )  # fmt: skip
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Presence:
    """Hold the four regressions over standardized features."""

    mean: Floats
    spread: Floats
    weights: Floats
    bias: Floats

    def __call__(self, spectrum: Array) -> Floats:
        """log-mel [80, frames] -> log-odds that drums, bass, piano and guitar are heard."""
        x = (features(spectrum) - self.mean) / self.spread
        return np.asarray(self.weights @ x + self.bias)


def fit(audio: Sequence[Array], stems: npt.NDArray[np.bool_], rounds: int = 400, decay: float = 3e-3) -> Presence:
    """Fit to sounds [n] and the stems [sounds, 4] that each holds, by gradient descent with momentum."""
    x = np.stack([features(log_mel(sound)) for sound in audio])
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    x = (x - mean) / spread
    y = stems.astype(np.float64)
    weights, bias = np.zeros((4, x.shape[1])), np.zeros(4)
    speed_w, speed_b = np.zeros_like(weights), np.zeros_like(bias)
    for _ in range(rounds):
        error = 1 / (1 + np.exp(-(x @ weights.T + bias))) - y
        speed_w = 0.9 * speed_w + error.T @ x / len(x) + decay * weights
        speed_b = 0.9 * speed_b + error.mean(axis=0)
        weights, bias = weights - 0.05 * speed_w, bias - 0.05 * speed_b
    return Presence(mean, spread, weights, bias)


def threshold(true_mixes: Floats) -> float:
    """Return the log-odds that nine in ten true mixes reach."""
    return float(np.percentile(true_mixes, PERCENTILE))
