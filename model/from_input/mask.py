"""A Wiener-like mask in mel bands, from edits that hold what stays and edits that hold what goes.

With S the power of edits that keep ("Only Drums.") and R that of the opposite edits ("No Drums."), a band passes
S^(q/2) / (S^(q/2) + b·R^(q/2)): q = 2, b = 1 is Wiener's filter (Vincent, Virtanen and Gannot, "Audio Source Separation
and Speech Enhancement", section 10.1). Both come out of the same codec, whose coloring cancels in the ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from ..config import SAMPLE_RATE
from ..instructions import Verb

Floats = npt.NDArray[np.float32]

SIZE, HOP = 2048, 512
"""Samples of a spectrum and between two, at 32 kHz: 64 ms and 16 ms."""
BANDS = 96
"""Mel bands up to 16 kHz; one more, from TREBLE up, says what happens above them."""
TREBLE = 11_000.0
FRAMES = 3
"""Spectra that powers are averaged over: 48 ms."""
SHARPNESS = 2.0
"""q; larger removes more of what goes, and of what stays."""
EXCESS: dict[Verb, float] = {"Only": 1.0, "No": 8.0}
"""b; larger takes more away. Where one of many goes, 4 leaves more of it on the demo than the 10 dB that people call
gone."""
QUIET = 1e-10
"""Power of a band below which neither side says anything: half passes."""
BLOCK = 4096
"""Spectra that are computed at a time."""


@dataclass(frozen=True)
class Mask:
    """The gains: float32 [BANDS + 1,frames] from 0 to 1, a frame each HOP samples at 32 kHz from sample 0 on."""

    gains: Floats

    def at(self, times: npt.NDArray[np.float64], frequencies: npt.NDArray[np.float64]) -> Floats:
        """Interpolate at times in seconds [t] and frequencies in Hz [f]: float32 [t, f].

        Frequencies above the highest mel band's center pass as the band of treble says.
        """
        place = np.clip(times * (SAMPLE_RATE / HOP), 0, self.gains.shape[1] - 1)
        left = place.astype(int)
        right = np.minimum(left + 1, self.gains.shape[1] - 1)
        share = (place - left).astype(np.float32)
        bands = self.gains[:, left] * (1 - share) + self.gains[:, right] * share
        return np.asarray(bands.T @ _spread(tuple(frequencies)), np.float32)


def mask(stays: Floats, goes: Floats, *, sharpness: float = SHARPNESS, excess: float = 1.0) -> Mask:
    """Make the mask from the powers [BANDS + 1, frames] of what stays and of what goes."""
    a, b = (np.maximum(_smooth(side), QUIET) ** (sharpness / 2) for side in (stays, goes))
    return Mask((a / (a + excess * b)).astype(np.float32))


def powers(samples: Floats) -> Floats:
    """Return the mean power of each band: float32 [BANDS + 1, n // HOP + 1], of samples [n] at 32 kHz."""
    frames = len(samples) // HOP + 1
    padded = np.pad(np.asarray(samples, np.float32), (SIZE // 2, SIZE // 2 + HOP))
    spectra = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP][:frames]
    window = np.hanning(SIZE + 1)[:-1].astype(np.float32)
    bank = _bank().T
    out = [
        np.square(np.abs(np.fft.rfft(spectra[at : at + BLOCK] * window, axis=1))).astype(np.float32) @ bank
        for at in range(0, frames, BLOCK)
    ]
    return np.ascontiguousarray(np.concatenate(out).T)


def _smooth(power: Floats) -> Floats:
    return np.asarray(uniform_filter1d(power, FRAMES, axis=1, mode="nearest"), np.float32)


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))


@cache
def _centers() -> npt.NDArray[np.float64]:
    """Return the centers of the mel bands in Hz [BANDS]; the first is at 0, so that all below it is its own."""
    return np.asarray(700 * (10 ** (np.linspace(0, _mel(SAMPLE_RATE / 2), BANDS) / 2595) - 1))


@cache
def _bank() -> Floats:
    """Return the weights of the bins in each band's mean power: float32 [BANDS + 1,SIZE / 2 + 1]."""
    bins = np.linspace(0, SAMPLE_RATE / 2, SIZE // 2 + 1)
    spread = _triangles(bins)
    bank = np.concatenate([spread, (bins >= TREBLE)[None].astype(np.float64)])
    # The lowest bands are narrower than a bin: their triangles hold few or none, and take the nearest one.
    for band, center in enumerate(_centers()):
        if bank[band].sum() < 0.5:
            bank[band] = np.arange(len(bins)) == np.abs(bins - center).argmin()
    return np.asarray(bank / bank.sum(axis=1, keepdims=True) / SIZE, np.float32)


@lru_cache(4)
def _spread(frequencies: tuple[float, ...]) -> Floats:
    """Return the weights of the bands at frequencies: float32 [BANDS + 1,f].

    Linear between the centers, treble above.
    """
    where = np.asarray(frequencies)
    inside = where <= _centers()[-2]
    return np.concatenate([_triangles(where) * inside, (~inside)[None]]).astype(np.float32)


def _triangles(frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return triangles [BANDS,f] that rise and fall linearly between neighboring centers; columns add up to 1."""
    unit = np.eye(BANDS)
    return np.stack([np.interp(frequencies, _centers(), row) for row in unit])
