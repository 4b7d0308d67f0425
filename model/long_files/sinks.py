"""Where an edit's samples go as they come: into a file that is there when it is whole, or down a pipe at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np

from .. import audio, whole_file
from ..audio import Samples, Saved
from ..audio_files import wav
from ..audio_files.spool import Spool
from ..audio_files.writing import encode_into

Raw = Literal["wav", "f32"]
PIPE = Path("standard output.wav")


class Sink(Protocol):
    """Takes an edit's samples in order."""

    def add(self, samples: Samples) -> None:
        """Take the next samples float32 [n]."""

    def finish(self) -> Saved:
        """End it; says at what level it was written."""


class FileSink:
    """A .wav, .flac or .ogg file, written when the last sample is there: only then its level is known."""

    def __init__(
        self, path: Path, rate: int, *, normalize: bool = False, tags: Mapping[str, str] | None = None
    ) -> None:
        self.path, self.rate, self.normalize, self.tags = path, rate, normalize, tags
        self.samples, self.peak = Spool(), 0.0

    def add(self, samples: Samples) -> None:
        """Keep the next samples, in a temporary file where there are many."""
        self.peak = max(self.peak, float(np.abs(samples).max(initial=0.0)))
        self.samples.append(samples)

    def finish(self) -> Saved:
        """Write the file, whole or not at all. Raises UserError where it cannot be written."""
        saved = audio.at_level(self.path, self.peak, normalize=self.normalize)
        whole_file.write_with(self.path, lambda file: self._write(file, saved.gain), explain=audio.unwritable)
        self.samples.close()
        return saved

    def _write(self, file: BinaryIO, gain: float) -> None:
        encode_into(file, self.path, _scaled(self.samples, gain), len(self.samples), self.rate, tags=self.tags)


class PipeSink:
    """WAV (or "f32", raw little-endian floats) down a pipe, each block at once; normalized, all of it at the end."""

    def __init__(
        self, pipe: BinaryIO, rate: int, frames: int, *, kind: Raw = "wav", normalize: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.pipe, self.peak = pipe, 0.0
        self.waiting = Spool() if normalize else None
        self._write(wav.header(frames, rate, tags=tags) if kind == "wav" else b"")

    def add(self, samples: Samples) -> None:
        """Write the next samples. Raises BrokenPipeError where nobody reads any more."""
        self.peak = max(self.peak, float(np.abs(samples).max(initial=0.0)))
        if self.waiting is not None:
            self.waiting.append(samples)
        else:
            self._write(samples.astype("<f4").tobytes())

    def finish(self) -> Saved:
        """Write what had to wait."""
        saved = audio.at_level(PIPE, self.peak, normalize=self.waiting is not None)
        if self.waiting is not None:
            for block in _scaled(self.waiting, saved.gain):
                self._write(block.astype("<f4").tobytes())
            self.waiting.close()
        return saved

    def _write(self, data: bytes) -> None:
        self.pipe.write(data)
        self.pipe.flush()


def _scaled(samples: Spool, gain: float) -> Iterator[Samples]:
    for block in samples.blocks():
        yield block if gain == 1 else block * np.float32(gain)
