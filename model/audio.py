"""Audio files in and out: any format, rate and channel count soundfile reads -> float32 mono at 32 kHz, and back."""

from __future__ import annotations

import math
import os
import stat
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soxr

from . import checks, whole_file
from .audio_files.decoders import copy, reason
from .audio_files.pieces import Seekable, View
from .audio_files.reading import Keep, LengthLimits, Mono, Samples, read_mono
from .audio_files.writing import encode, file_format
from .config import HOP, SAMPLE_RATE
from .errors import UserError

__all__ = [
    "SUFFIXES", "Clip", "Samples", "Saved", "UserError", "at_level", "check_destination", "clip_files", "decibels",
    "encoded", "load", "read_mix", "resample", "save", "scaled", "unwritable", "write",
]  # fmt: skip

MAX_SECONDS = 3600
MAX_FRAMES = 1 << 28
"""With MAX_SECONDS, the most `load` takes: 1 GiB of mono float32 before resampling."""
MAX_RATE = 2**31 - 1
"""Hz; what the formats' headers can hold."""
MAX_SOURCE_RATE = 768_000
"""Hz; no converter of sound records at more."""
SILENCE = 1e-4
"""-80 dBFS: a clip that never gets louder is dither or noise of an empty take, not sound to edit."""
CANCELLED = 0.01
"""A mono mix with less than this share of its channels' power (20 dB below them) has lost most of the music."""
NORMALIZED_PEAK = 10 ** (-1 / 20)
"""-1 dBFS, which leaves lossy encoders and resamplers headroom."""

_BLOCK = 1 << 22
SUFFIXES = {
    ".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aiff", ".aif", ".aifc", ".au",
    ".snd", ".caf", ".m4a", ".mp4", ".aac",
}  # fmt: skip
"""Suffixes of the files that are taken out of a folder; a file that is named itself may have any."""


@dataclass(frozen=True)
class Clip:
    """A loaded clip: float32 mono `samples` [n] at `rate` Hz, and what the file held."""

    samples: Samples
    rate: int
    source_rate: int
    source_frames: int
    channels: int
    peak: float
    """Largest absolute sample of any channel in the file; 1.0 is full scale, float files may exceed it."""
    notes: tuple[str, ...] = ()
    """What else there is to know of the file: joined, cut off where no length was known."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.source_frames / self.source_rate


@dataclass(frozen=True)
class Saved:
    """The outcome of `save`: the peak it was given, and the gain it applied (1.0: none)."""

    peak: float
    gain: float
    subtype: str


def load(source: str | os.PathLike[str] | BinaryIO, *, sample_rate: int = SAMPLE_RATE) -> Clip:
    """Read an audio file as float32 mono at `sample_rate` Hz: channels averaged, resampled by soxr (VHQ).

    `source` is a path, or a binary file that is read to its end (`sys.stdin.buffer`). What it holds decides, not its
    name: anything libsndfile decodes, and AAC, ALAC and others through PyAV or ffmpeg where they are installed. Every
    frame that decodes is read, of all recordings where files were joined. The level is never changed. The result has
    round(frames · sample_rate / source rate) samples.

    Warns where the channels nearly cancel in mono. Raises UserError, saying what to do, for a file that is missing,
    unreadable, not audio, truncated (shorter than the length that it names), empty, longer than MAX_SECONDS, at a rate
    above MAX_SOURCE_RATE, joined from more than 1000 others, silent, shorter than one codec frame, or with samples that
    are NaN, infinite, or beyond 1000 times full scale.
    """
    sample_rate = checks.whole("sample_rate", sample_rate, 1, MAX_RATE)
    with opened(source) as (name, file):
        return load_open(name, file, sample_rate=sample_rate)


def load_open(name: str, file: Seekable, keep: Keep | None = None, *, sample_rate: int = SAMPLE_RATE) -> Clip:
    """Do what `load` does with a file that is open; `name` is for messages.

    keep, if given, is told blocks of all samples as they were decoded, float32 [n, channels], and their rate.
    """
    mono = read_mix(name, file, keep, sample_rate)
    frames = scaled(len(mono.samples), mono.rate, sample_rate)
    samples = resample(mono.samples.read(), mono.rate, sample_rate, frames)
    source_frames = len(mono.samples)
    mono.samples.close()
    return Clip(samples, sample_rate, mono.rate, source_frames, mono.channels, mono.peak, tuple(mono.notes))


def read_mix(
    name: str,
    file: Seekable,
    keep: Keep | None = None,
    sample_rate: int = SAMPLE_RATE,
    decode_seconds: float = math.inf,
) -> Mono:
    """Read the mono mix of a file, at its own rate. Raises what `load` raises, and warns as it does.

    Raises UserError too where reading and decoding take longer than `decode_seconds`.
    """
    view = View.whole(file)
    if not view.end:
        raise UserError(f"{name}: empty file; give a clip with sound in it")
    limits = LengthLimits(MAX_SECONDS, MAX_FRAMES, MAX_SOURCE_RATE, decode_seconds)
    mono = read_mono(name, view, limits, _BLOCK, keep)
    frames, rate = len(mono.samples), mono.rate
    if mono.peak < SILENCE:
        raise UserError(f"{name}: silent (peak {decibels(mono.peak)}); give a clip with sound in it")
    if mono.mono_peak < SILENCE:
        raise UserError(f"{name}: its {mono.channels} channels cancel out when mixed to mono; give one channel of it")
    if mono.lost < CANCELLED:
        warnings.warn(
            f"{name}: its {mono.channels} channels nearly cancel: mixed to mono they are "
            f"{-10 * np.log10(mono.lost):.0f} dB quieter than apart; is one of them inverted? Give one channel of it",
            stacklevel=4,
        )
    if scaled(frames, rate, sample_rate) * SAMPLE_RATE < HOP * sample_rate:
        raise UserError(
            f"{name}: {frames} samples at {rate} Hz are shorter than one codec frame "
            f"({HOP / SAMPLE_RATE:g} s); give a longer clip"
        )
    return mono


def clip_files(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return audio files, those of a folder in order of their names; hidden ones (a Mac's "._song.wav") are left out.

    Raises UserError where a folder has none, naming what else it has.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        seen = sorted(p for p in path.iterdir() if not p.name.startswith(".") and p.is_file())
        if not (inside := [p for p in seen if p.suffix.lower() in SUFFIXES]):
            raise UserError(f"{path} has no audio files ({', '.join(sorted(SUFFIXES))})")
        found += inside
    return found


def resample(samples: npt.ArrayLike, rate: int, target: int, frames: int | None = None) -> Samples:
    """Return samples [n] at `rate` Hz -> float32 at `target` Hz.

    The result is cut or zero-padded to exactly `frames` samples if given.

    Raises ValueError for another shape, dtype, rate or number of frames.
    """
    out = checks.mono(samples, "samples")
    rate, target = checks.whole("rate", rate, 1, MAX_RATE), checks.whole("target", target, 1, MAX_RATE)
    frames = None if frames is None else checks.whole("frames", frames, 0)
    if rate != target:
        try:
            out = soxr.resample(out, rate, target, quality="VHQ")
        except (ValueError, RuntimeError) as e:
            raise UserError(f"cannot resample from {rate} Hz to {target} Hz: {e}; resample the clip yourself") from e
    if frames is not None and len(out) != frames:
        out = np.pad(out[:frames], (0, max(0, frames - len(out))))
    return np.ascontiguousarray(out, dtype=np.float32)


def check_destination(path: str | os.PathLike[str], rate: int = SAMPLE_RATE) -> None:
    """Raise, before any work is done, what `save` would raise for this path, its extension or this rate."""
    path, rate = Path(path), checks.whole("rate", rate, 1, MAX_RATE)
    encode(path, np.zeros(1, np.float32), rate)
    whole_file.check_writable(path, make_folders=False, explain=unwritable)


def save(
    path: str | os.PathLike[str] | BinaryIO, samples: npt.ArrayLike, rate: int, *, normalize: bool = False,
    tags: Mapping[str, str] | None = None,
) -> Saved:  # fmt: skip
    """Write mono samples [n] or [1, n] to .wav (32-bit float), .flac (24 bits) or .ogg (Vorbis), atomically.

    A binary file (`sys.stdout.buffer`) in place of a path is given WAV. Arrays of any library and lists are taken;
    integer samples are scaled to full scale 1. `normalize` scales the peak to -1 dBFS. Otherwise the level is kept,
    except that a peak above full scale is scaled to full scale where the format cannot hold it (FLAC, OGG); the
    returned gain tells. tags: what the file says of itself (see `model.audio_files.writing.TAGS`). Raises UsageError
    for another extension, ValueError for another shape, dtype or rate, and UserError for NaN or infinite samples and
    for a path that cannot be written; then nothing is there.
    """
    stream = None if isinstance(path, str | os.PathLike) else path
    path = Path("standard output.wav") if stream else Path(path)  # type: ignore[arg-type]
    data, saved = encoded(path, samples, rate, normalize=normalize, tags=tags)
    if stream:
        stream.write(data)
        stream.flush()
    else:
        write({path: data})
    return saved


def encoded(
    path: Path, samples: npt.ArrayLike, rate: int, *, normalize: bool = False, tags: Mapping[str, str] | None = None
) -> tuple[bytes, Saved]:
    """Return the bytes that `save` writes, and what it says of them; for files that are written all or none."""
    clip, rate = checks.mono(samples, "samples"), checks.whole("rate", rate, 1, MAX_RATE)
    peak = float(np.abs(clip).max(initial=0.0))
    if not np.isfinite(peak):
        raise UserError(f"{path}: not written: the samples hold NaN or infinity; check the bundle or the array")
    saved = at_level(path, peak, normalize=normalize)
    data = encode(path, clip if saved.gain == 1 else clip * np.float32(saved.gain), rate, tags=tags)
    return data, saved


def at_level(path: Path, peak: float, *, normalize: bool = False) -> Saved:
    """Return at what gain a sound with this peak is written to `path`; see `save`."""
    subtype = file_format(path)[1]
    gain = 1.0
    if normalize and peak > 0:
        gain = NORMALIZED_PEAK / peak
    elif subtype != "FLOAT" and peak > 1:
        gain = 1 / peak
    return Saved(peak, gain, subtype)


def write(contents: Mapping[Path, bytes | str]) -> None:
    """Write files, all of them or none, into folders that are there. Raises UserError that names -o."""
    whole_file.write_whole(contents, make_folders=False, explain=unwritable)


def decibels(level: float) -> str:
    """Return a level as text in dB of full scale: "-6.0 dBFS"."""
    return f"{20 * np.log10(level):+.1f} dBFS" if level > 0 else "-inf dBFS"


@contextmanager
def opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[tuple[str, Seekable]]:
    """Provide a name for messages, and the file. Raises UserError where it cannot be opened."""
    if not isinstance(source, str | os.PathLike):
        with tempfile.SpooledTemporaryFile(1 << 26) as kept:
            try:
                copy(source, kept)
            except OSError as e:
                raise UserError(f"standard input: cannot be read ({reason(e)}); name an audio file") from e
            except UserError as e:
                raise UserError(f"standard input: {e}") from e
            yield "standard input", kept
        return
    path = Path(source)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise UserError(f"{path}: cannot be read ({kind}); name an audio file, or - for a pipe")
        file = open(path, "rb")  # noqa: SIM115 - below
    except (OSError, ValueError) as e:  # ValueError: a NUL in the name
        raise UserError(f"{path}: cannot be read ({reason(e)}); check the path") from e
    with file:
        try:
            yield str(path), file
        except OSError as e:
            raise UserError(f"{path}: cannot be read ({reason(e)}); check the disk") from e


def scaled(frames: int, rate: int, target: int) -> int:
    """Return round(frames · target / rate) in integers, halves up."""
    return (2 * frames * target + rate) // (2 * rate)


def unwritable(path: Path, e: OSError) -> UserError:
    """Say why a file cannot be written."""
    return UserError(f"{path}: cannot be written ({reason(e)}); choose another place with -o")
