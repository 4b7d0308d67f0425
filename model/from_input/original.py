"""The original as its file holds it: every channel, at its own rate and bit depth."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile

from .. import audio
from ..audio_files.pieces import Seekable
from ..errors import UserError

PCM = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
"""Bits of libsndfile's subtypes that hold whole numbers."""


@dataclass(frozen=True)
class Original:
    """Samples [n, channels] at `rate` Hz: float32 where `bits` is None, else whole numbers of so many bits.

    Those are int32, or int64 at 32 bits: wide enough for the difference of two.
    """

    samples: npt.NDArray[Any]
    rate: int
    bits: int | None

    def cut(self, frames: int) -> Original:
        """Return the first frames."""
        return Original(self.samples[:frames], self.rate, self.bits)

    def as_bits(self, bits: int | None) -> Original:
        """Return it in PCM of so many bits, rounded where it had more or was float; None: as float32.

        Raises UserError where float samples exceed full scale, which PCM cannot hold.
        """
        if bits == self.bits:
            return self
        if bits is None:
            return Original(self.floats(), self.rate, None)
        if self.bits is not None:
            shift = bits - self.bits
            low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
            given = self.samples.astype(np.int64)
            values = given << shift if shift > 0 else (given + (1 << (-shift - 1))) >> -shift
            return Original(np.clip(values, low, high).astype(_wide(bits)), self.rate, bits)
        if np.abs(self.samples).max(initial=0) > 1:
            raise UserError("its peak is above full scale, which integer samples cannot hold; write a .wav")
        scaled = np.rint(self.samples.astype(np.float64) * (1 << (bits - 1)))
        return Original(np.minimum(scaled, (1 << (bits - 1)) - 1).astype(_wide(bits)), self.rate, bits)

    def floats(self) -> npt.NDArray[np.float32]:
        """Return the samples as float32, full scale 1."""
        if self.bits is None:
            return np.asarray(self.samples, np.float32)
        return (self.samples / float(1 << (self.bits - 1))).astype(np.float32)


def load(source: str | os.PathLike[str] | BinaryIO) -> tuple[audio.Clip, Original]:
    """Read a file as `audio.load` does, and every channel of it beside. Raises what that raises.

    Raises UserError too where recordings of unequal rates or channels were joined.
    """
    with audio.opened(source) as (name, file):
        kept: list[npt.NDArray[np.float32]] = []
        clip = audio.load_open(name, file, lambda block, _: kept.append(block))
        if len({block.shape[1] for block in kept}) > 1 or sum(map(len, kept)) != clip.source_frames:
            raise UserError(
                f"{name}: recordings of different rates or channels are joined; convert it to one WAV first"
            )
        whole = whole_numbers(file, clip.source_frames, clip.source_rate)
        return clip, whole or Original(np.concatenate(kept), clip.source_rate, None)


def whole_numbers(file: Seekable, frames: int, rate: int, start: int = 0, stop: int | None = None) -> Original | None:
    """Read frames [start, stop) of PCM to the bit: 24 bits and less are whole in float32 too, 32 are not.

    None where the file is no single PCM of `frames` frames at `rate` Hz.
    """
    stop = frames if stop is None else stop
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as opened:
            bits = PCM.get(opened.subtype)
            if bits is None or (opened.frames, opened.samplerate) != (frames, rate):
                return None
            opened.seek(start)
            values = opened.read(stop - start, dtype="int32", always_2d=True)
    except (soundfile.LibsndfileError, OSError):
        return None
    if len(values) != stop - start:
        return None
    bits = max(bits, 16)
    return Original(values.astype(_wide(bits)) >> (32 - bits), rate, bits)


def _wide(bits: int) -> type[np.int32] | type[np.int64]:
    return np.int64 if bits == 32 else np.int32
