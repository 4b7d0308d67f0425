"""When something is struck: peaks of spectral flux, matched within 50 ms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...spectra import RATE, mel

HOP = 320
TOLERANCE = 0.05
"""Seconds within which two onsets are the same."""
APART = 0.05
"""Seconds between two onsets at least."""


def onsets(audio: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the times of onsets in seconds, of audio [n] at 32 kHz."""
    level = np.log1p(100 * mel(audio, 1024, 40, HOP))
    flux = np.maximum(0, np.diff(level, axis=-1)).mean(axis=0)
    if not len(flux) or flux.max() < 1e-3:
        return np.zeros(0)
    width = 12
    around = np.lib.stride_tricks.sliding_window_view(np.pad(flux, width, mode="edge"), 2 * width + 1)
    strong = flux > around.mean(axis=1) + 0.08 * flux.max()
    peak = flux >= around[:, width - 3 : width + 4].max(axis=1)
    times: list[float] = []
    for index in np.flatnonzero(strong & peak):
        at = float((index + 1) * HOP / RATE)
        if not times or at - times[-1] >= APART:
            times.append(at)
    return np.array(times)


def onset_f(found: npt.NDArray[np.float64], true: npt.NDArray[np.float64]) -> float:
    """Return the F measure of onsets; each matches at most one. 1 where both have none."""
    if not len(found) and not len(true):
        return 1.0
    free, matched = list(true), 0
    for at in found:
        near = [t for t in free if abs(t - at) <= TOLERANCE]
        if near:
            free.remove(min(near, key=lambda t: abs(t - at)))
            matched += 1
    return 2 * matched / (len(found) + len(true))
