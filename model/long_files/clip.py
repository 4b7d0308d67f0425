"""A clip of any length in bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soxr

from .. import audio
from ..audio import Samples
from ..audio_files.spool import Spool
from ..config import SAMPLE_RATE
from ..errors import UserError


@dataclass(frozen=True)
class LongClip:
    """A loaded clip: `frames` samples of mono at `rate` Hz, read in order, and what the file held (as `audio.Clip`)."""

    mono: Spool
    """The mix, at `source_rate` Hz."""
    frames: int
    rate: int
    source_rate: int
    channels: int
    peak: float
    notes: tuple[str, ...] = ()

    @property
    def source_frames(self) -> int:
        """Samples of each channel in the file."""
        return len(self.mono)

    def blocks(self) -> Iterator[Samples]:
        """Yield the samples at `rate` Hz, block by block: those of `audio.load`, to the bit."""
        return resampled(self.mono.blocks(), self.source_rate, self.rate, self.frames)

    def digest(self) -> str:
        """Return the SHA-256 of the samples at the file's own rate."""
        found = hashlib.sha256()
        for block in self.mono.blocks():
            found.update(block.data)
        return found.hexdigest()


def load(source: str | os.PathLike[str] | BinaryIO) -> LongClip:
    """Read an audio file as `audio.load` does, with its errors and warnings, in memory that does not grow with it.

    What is longer than `spool.IN_MEMORY` goes into a temporary file (4 bytes a sample of mono).
    """
    with audio.opened(source) as (name, file):
        mono = audio.read_mix(name, file)
    frames = audio.scaled(len(mono.samples), mono.rate, SAMPLE_RATE)
    return LongClip(mono.samples, frames, SAMPLE_RATE, mono.rate, mono.channels, mono.peak, tuple(mono.notes))


def resampled(blocks: Iterable[Samples], rate: int, target: int, frames: int) -> Iterator[Samples]:
    """Resample samples [n] that come in blocks: what comes out, joined, is what `audio.resample` makes of the whole."""
    left = frames
    for block in _through(blocks, rate, target):
        if len(block) and left:
            yield np.ascontiguousarray(block[:left], np.float32)
            left -= min(len(block), left)
    if left:
        yield np.zeros(left, np.float32)


def _through(blocks: Iterable[Samples], rate: int, target: int) -> Iterator[Samples]:
    if rate == target:
        yield from blocks
        return
    try:
        stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="VHQ")
    except (ValueError, RuntimeError) as e:
        raise UserError(f"cannot resample from {rate} Hz to {target} Hz: {e}; resample the clip yourself") from e
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
