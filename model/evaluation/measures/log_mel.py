"""Distance between two recordings' log-mel spectrograms."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

BANDS, WINDOW, HOP = 80, 2048, 640
RANGE_DB = 80.0
"""Bands more than this below the truth's loudest are taken as silent: nobody hears how silent."""


@functools.cache
def _filters(rate: int) -> npt.NDArray[np.float64]:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(WINDOW // 2 + 1, BANDS, 0.0, rate / 2, rate, norm="slaney", mel_scale="slaney")
    return np.asarray(bank, dtype=np.float64)


def mel_power(samples: npt.ArrayLike, rate: int) -> npt.NDArray[np.float64]:
    """Compute the mel power spectrogram [BANDS,frames] of samples [n].

    Hann windows of 2048 samples, 640 apart; Slaney's mel bands.
    """
    from transformers.audio_utils import spectrogram, window_function

    power = spectrogram(
        np.asarray(samples, dtype=np.float64),
        window_function(WINDOW, "hann"),
        WINDOW,
        HOP,
        power=2.0,
        mel_filters=_filters(rate),
        pad_mode="constant",
        mel_floor=0.0,
    )
    return np.asarray(power, dtype=np.float64)


def log_mel_distance(estimate: npt.ArrayLike, truth: npt.ArrayLike, rate: int) -> float:
    """Return the mean absolute difference in dB over bands and frames.

    Both signals are floored RANGE_DB below the truth's loudest band.

    0 for equal signals; a change of volume by g dB counts g wherever both are above the floor. Both [n] at `rate` Hz.
    NaN if the truth is silent. Raises ValueError for different lengths.
    """
    e, t = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if e.ndim != 1 or e.shape != t.shape or e.size == 0:
        raise ValueError(f"estimate {e.shape} and truth {t.shape} must be equally long signals [n]; cut the longer one")
    wanted, got = mel_power(t, rate), mel_power(e, rate)
    floor = wanted.max() * 10 ** (-RANGE_DB / 10)
    if floor == 0:
        return float("nan")
    return float(np.abs(10 * (np.log10(np.maximum(got, floor)) - np.log10(np.maximum(wanted, floor)))).mean())
