"""Audio files in and out: any format, rate and channel count soundfile reads -> float32 mono at 32 kHz, and back."""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from .config import HOP, SAMPLE_RATE
from .errors import UsageError, UserError

MAX_SECONDS = 3600
MAX_FRAMES = 1 << 28
"""With MAX_SECONDS, the most `load` takes: 1 GiB of mono float32 before resampling."""
SILENCE = 1e-4
"""-80 dBFS: a clip that never gets louder is dither or noise of an empty take, not sound to edit."""
NORMALIZED_PEAK = 10 ** (-1 / 20)
"""-1 dBFS, which leaves lossy encoders and resamplers headroom."""

# Float WAV holds any level; the others hold at most full scale, so `save` scales what exceeds it and says so.
_FORMATS = {".wav": ("WAV", "FLOAT"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}
_BLOCK = 1 << 22

Samples = npt.NDArray[np.float32]


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

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.source_frames / self.source_rate


@dataclass(frozen=True)
class Saved:
    """What `save` wrote: the peak it was given, and the gain it applied (1.0: none)."""

    peak: float
    gain: float
    subtype: str


def load(path: str | os.PathLike[str], *, sample_rate: int = SAMPLE_RATE) -> Clip:
    """Read an audio file as float32 mono at `sample_rate` Hz: channels averaged, resampled by soxr (VHQ).

    The level is never changed. The result has round(frames · sample_rate / source rate) samples. Raises UserError,
    saying what to do, for a file that is missing, unreadable, not audio, truncated, empty, longer than MAX_SECONDS,
    silent, shorter than one codec frame, or with NaN or infinite samples.
    """
    path = Path(path)
    _check_readable(path)
    try:
        # soundfile raises TypeError for headerless formats (.raw), whose rate and channels nobody can know.
        # As bytes: a name need not be text.
        with soundfile.SoundFile(os.fsencode(path)) as file:
            mono, peak = _read_mono(path, file)
            source_rate, channels = int(file.samplerate), int(file.channels)
    except (soundfile.LibsndfileError, TypeError, OSError) as e:
        raise UserError(f"{path}: not audio that can be read ({_reason(e)}); convert it to WAV or FLAC") from e
    if peak < SILENCE:
        raise UserError(f"{path}: silent (peak {decibels(peak)}); give a clip with sound in it")
    if np.abs(mono).max() < SILENCE:
        raise UserError(f"{path}: its {channels} channels cancel out when mixed to mono; give one channel of it")
    samples = resample(mono, source_rate, sample_rate, _scaled(len(mono), source_rate, sample_rate))
    if len(samples) * SAMPLE_RATE < HOP * sample_rate:
        raise UserError(
            f"{path}: {len(mono)} samples at {source_rate} Hz are shorter than one codec frame "
            f"({HOP / SAMPLE_RATE:g} s); give a longer clip"
        )
    return Clip(samples, sample_rate, source_rate, len(mono), channels, peak)


def resample(samples: Samples, rate: int, target: int, frames: int | None = None) -> Samples:
    """Samples [n] at `rate` Hz -> float32 at `target` Hz, cut or zero-padded to exactly `frames` samples if given."""
    if rate != target:
        try:
            samples = soxr.resample(samples, rate, target, quality="VHQ")
        except (ValueError, RuntimeError) as e:
            raise UserError(f"cannot resample from {rate} Hz to {target} Hz: {e}; resample the clip yourself") from e
    if frames is not None and len(samples) != frames:
        samples = np.pad(samples[:frames], (0, max(0, frames - len(samples))))
    return np.ascontiguousarray(samples, dtype=np.float32)


def check_destination(path: str | os.PathLike[str], rate: int = SAMPLE_RATE) -> None:
    """Raise, before any work is done, what `save` would raise for this path, its extension or this rate."""
    path = Path(path)
    _encode(path, np.zeros(1, np.float32), rate)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary = _temporary(path)
        with open(temporary, "xb"):
            pass
        temporary.unlink()
    except OSError as e:
        raise _unwritable(path, e) from e


def save(path: str | os.PathLike[str], samples: npt.ArrayLike, rate: int, *, normalize: bool = False) -> Saved:
    """Write mono samples [n] to .wav (32-bit float), .flac (24 bits) or .ogg (Vorbis), atomically.

    `normalize` scales the peak to -1 dBFS. Otherwise the level is kept, except that a peak above full scale is scaled
    to full scale where the format cannot hold it (FLAC, OGG); the returned gain tells. Raises UsageError for another
    extension and UserError for NaN or infinite samples and for a path that cannot be written; then nothing is there.
    """
    path = Path(path)
    samples = np.asarray(samples, dtype=np.float32)
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak):
        raise UserError(f"{path}: not written, the audio has NaN or infinite samples; is the model's bundle damaged?")
    subtype = _format(path)[1]
    gain = 1.0
    if normalize and peak > 0:
        gain = NORMALIZED_PEAK / peak
    elif subtype != "FLOAT" and peak > 1:
        gain = 1 / peak
    data = _encode(path, samples if gain == 1 else samples * np.float32(gain), rate)
    try:
        temporary = _temporary(path)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, os.path.realpath(path))
        except BaseException:  # Ctrl-C included
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as e:
        raise _unwritable(path, e) from e
    return Saved(peak, gain, subtype)


def decibels(level: float) -> str:
    """A level as text in dB of full scale: "-6.0 dBFS"."""
    return f"{20 * np.log10(level):+.1f} dBFS" if level > 0 else "-inf dBFS"


def _check_readable(path: Path) -> None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise UserError(f"{path}: cannot be read ({kind}); name an audio file")
        if status.st_size == 0:
            raise UserError(f"{path}: empty file; give a clip with sound in it")
        with open(path, "rb"):
            pass
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({_reason(e)}); check the path") from e


def _read_mono(path: Path, file: soundfile.SoundFile) -> tuple[Samples, float]:
    """The mean of the channels and the peak of all of them, block by block: no copy of every channel is held."""
    most = min(MAX_FRAMES, MAX_SECONDS * file.samplerate)
    if file.frames > most:
        raise UserError(
            f"{path}: its header names {file.frames} frames at {file.samplerate} Hz; at most {MAX_SECONDS} s and "
            f"{MAX_FRAMES} frames are taken; cut it into parts"
        )
    blocks: list[Samples] = []
    peak, frames = 0.0, 0
    while len(block := file.read(max(1, _BLOCK // file.channels), dtype="float32", always_2d=True)):
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            at = (frames + int(np.argmin(finite))) / file.samplerate
            raise UserError(f"{path}: NaN or infinite samples (the first at {at:.3f} s); repair the file")
        frames += len(block)
        if frames > most:  # a header may understate
            raise UserError(f"{path}: longer than {MAX_SECONDS} s or {MAX_FRAMES} frames; cut it into parts")
        peak = max(peak, float(np.abs(block).max()))
        blocks.append(block[:, 0] if file.channels == 1 else block.mean(axis=1, dtype=np.float64).astype(np.float32))
    if not frames:
        raise UserError(f"{path}: no samples (zero length); give a clip with sound in it")
    # MPEG headers only estimate the length.
    if frames < file.frames and file.format != "MP3":
        raise UserError(f"{path}: truncated ({frames} of {file.frames} frames can be read); get a whole copy")
    return np.concatenate(blocks), peak


def _scaled(frames: int, rate: int, target: int) -> int:
    """round(frames · target / rate) in integers, halves up."""
    return (2 * frames * target + rate) // (2 * rate)


def _format(path: Path) -> tuple[str, str]:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path}: cannot write '{path.suffix or path.name}' files; use one of {', '.join(_FORMATS)}"
        ) from None


def _encode(path: Path, samples: Samples, rate: int) -> bytes:
    """The file's bytes, made in memory: whatever fails later is an OSError with a plain reason."""
    container, subtype = _format(path)
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", rate, 1, subtype, format=container) as file:
            # libsndfile's Vorbis encoder overruns its stack on one very long write.
            for start in range(0, len(samples), 1 << 16):
                file.write(samples[start : start + (1 << 16)])
    except (soundfile.LibsndfileError, ValueError) as e:
        raise UserError(f"{path}: {container} cannot hold {rate} Hz ({_reason(e)}); use .wav") from e
    data = bytearray(buffer.getbuffer())
    # libsndfile stamps float WAV files with the time of writing; the same edit shall give the same bytes.
    if (at := data.find(b"PEAK", 0, 256)) >= 0:
        data[at + 12 : at + 16] = bytes(4)
    return bytes(data)


def _temporary(path: Path) -> Path:
    """A name beside the file; beside what it points to if it is a link, which is then written through."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")


def _unwritable(path: Path, e: OSError) -> UserError:
    return UserError(f"{path}: cannot be written ({_reason(e)}); choose another place with -o")


def _reason(e: Exception) -> str:
    if isinstance(e, OSError) and e.strerror:
        return e.strerror.lower()
    return (getattr(e, "error_string", None) or str(e)).strip().rstrip(".").replace("\n", " ")
