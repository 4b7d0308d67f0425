"""Magnitudes, mel bands and the log-mel distance, in numpy: for pictures, scores, and the demo's codec and judge."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

RATE = 32_000
SIZE, BANDS = 2048, 80
FLOOR = 2e-3
"""Magnitudes below this (-54 dB) count as silence."""


@lru_cache(maxsize=16)
def mel_filters(size: int, bands: int) -> Array:
    """Return triangular filters float32 [bands, size/2+1] from 30 Hz to 15.2 kHz, on O'Shaughnessy's mel scale."""
    frequencies = np.linspace(0, RATE / 2, size // 2 + 1)
    low, high = 2595 * np.log10(1 + 30 / 700), 2595 * np.log10(1 + 0.95 * RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def magnitudes(audio: npt.ArrayLike, size: int = SIZE, hop: int | None = None) -> Array:
    """Compute magnitudes [...,frames,size/2+1] of audio [...,n]: Hann windows, the edges mirrored."""
    x = np.asarray(audio, np.float32)
    hop = hop or size // 4
    x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(size // 2, size // 2)], mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(x, size, axis=-1)[..., ::hop, :]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    return np.abs(np.fft.rfft(frames * window, axis=-1)).astype(np.float32)


def mel(audio: npt.ArrayLike, size: int = SIZE, bands: int = BANDS, hop: int | None = None) -> Array:
    """Compute magnitudes in mel bands [...,bands,frames] of audio [...,n]."""
    bank = mel_filters(size, bands)
    scaled: Array = np.swapaxes(magnitudes(audio, size, hop) @ bank.T, -1, -2) * np.float32(4 / size**0.5)
    return scaled


def log_mel(audio: npt.ArrayLike) -> Array:
    """Compute 80 mel bands in dB [...,80,frames] of audio [...,n] at 32 kHz, nothing below -54 dB."""
    return np.asarray(20 * np.log10(np.maximum(mel(audio), FLOOR)), np.float32)


def distance(a: Array, b: Array, where: npt.NDArray[np.bool_] | None = None) -> float:
    """Return the mean absolute difference of two log-mels in dB, in some cells where asked; NaN if there are none."""
    difference = np.abs(a - b) if where is None else np.abs(a - b)[where]
    return float(difference.mean()) if difference.size else float("nan")
