"""Split an original in two by a mask: what passes and the rest, which add up to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..audio_files import writing
from ..errors import UsageError
from .mask import Mask
from .original import Original

SECONDS = 0.064
"""Length of a spectrum's window; windows are a quarter of it apart."""
BLOCK = 1 << 21
"""Samples of spectra that are worked on at a time, so that memory grows neither with the clip nor with its rate."""


@dataclass(frozen=True)
class Split:
    """The part that passed and the rest, as numbers of the original's kind.

    In PCM they add up to it exactly, else up to one rounding.
    """

    output: Original
    rest: Original


def split(original: Original, mask: Mask) -> Split:
    """Weigh the original's own spectrum, every channel alike: phase, rate, stereo and treble stay as they are."""
    given = original.samples
    output, rest = np.empty_like(given), np.empty_like(given)
    for start, passed in masked(given, original.rate, mask):
        here = slice(start, start + len(passed))
        output[here] = passed if original.bits is None else _whole(passed, given[here], original.bits)
        rest[here] = given[here] - output[here]
    return Split(Original(output, original.rate, original.bits), Original(rest, original.rate, original.bits))


def _whole(passed: npt.NDArray[np.float64], given: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Round to whole numbers that `bits` hold, and that leave a rest which they hold too."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    least, most = np.maximum(low, given - high), np.minimum(high, given - low)
    return np.asarray(np.clip(np.rint(passed).astype(given.dtype), least, most))


def masked(samples: npt.NDArray[Any], rate: int, mask: Mask) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Weigh the spectrum of samples [n, channels]: yield pieces [m, channels] of their scale, with where they begin.

    Linear in the samples. Spectrum k is around sample (k - 1)·hop; hop k of the result takes part in four of them.
    """
    hop = max(1, round(rate * SECONDS / 4))
    size = 4 * hop
    window = np.hanning(size + 1)[:-1]  # its square, a quarter apart, adds up to 1.5
    frequencies = np.linspace(0, rate / 2, size // 2 + 1)
    most = max(1, BLOCK // size)
    for first in range(0, -(-len(samples) // hop), most):
        hops = min(most, -(-len(samples) // hop) - first)
        begin, end = (first - 3) * hop, (first + hops + 3) * hop
        local = samples[max(begin, 0) : end].astype(np.float64)
        local = np.pad(local, ((max(-begin, 0), max(end - len(samples), 0)), (0, 0)))
        times = np.asarray((first - 1 + np.arange(hops + 3)) * (hop / rate), np.float64)
        gains = mask.at(times, frequencies)
        out = np.zeros((hops, hop, samples.shape[1]))
        for channel in range(samples.shape[1]):
            spans = np.lib.stride_tricks.sliding_window_view(local[:, channel], size)[::hop]
            parts = np.fft.irfft(np.fft.rfft(spans * window, axis=1) * gains, size, axis=1) * (window / 1.5)
            quarters = parts.reshape(-1, 4, hop)
            for j in range(4):
                out[:, :, channel] += quarters[3 - j : 3 - j + hops, j]
        start = first * hop
        yield start, out.reshape(-1, samples.shape[1])[: len(samples) - start]


def suffix_bits(path: Path, original: Original) -> int | None:
    """Return the bits of a sample in a file of this name, None for float. Raises UsageError for lossy files."""
    container, _ = writing.file_format(path)
    if container == "OGG":
        raise UsageError(
            f"{path}: OGG keeps no sample as it was, so that --from-input cannot write it; use .wav or .flac"
        )
    if container == "FLAC":
        return 16 if original.bits == 16 else 24
    return original.bits


def encoded(path: Path, part: Original, tags: dict[str, str]) -> bytes:
    """Return a file's bytes: WAV or FLAC in the part's own bits, or 32-bit float WAV."""
    if part.bits is None:
        return writing.encode(path, part.samples, part.rate, subtype="FLOAT", tags=tags)
    whole = writing.as_int32(part.samples, part.bits)
    return writing.encode(path, whole, part.rate, subtype=f"PCM_{part.bits}", tags=tags)
