"""Audio files made in memory: the bytes of WAV, FLAC and OGG, with what they say of themselves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from ..errors import UsageError, UserError
from ..files import is_stream
from .decoders import reason

# Float WAV holds any level; the others hold at most full scale, so `audio.save` scales what exceeds it and says so.
FORMATS = {".wav": ("WAV", "FLOAT"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}
TAGS = ("title", "copyright", "software", "comment", "license")
"""Names that `encode` takes: WAV's INFO has all but the license, FLAC's and OGG's comments have all."""


def file_format(path: Path) -> tuple[str, str]:
    """Return libsndfile's container and subtype for a path. UsageError for an extension that is not written."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        if is_stream(path):
            return FORMATS[".wav"]
        raise UsageError(
            f"{path}: cannot write '{path.suffix or path.name}' files; use one of {', '.join(FORMATS)}"
        ) from None


def encode(
    path: Path, samples: npt.NDArray[Any], rate: int, *, subtype: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> bytes:  # fmt: skip
    """Return a file's bytes, made in memory: whatever fails later is an OSError with a plain reason.

    samples: [n] or [n, channels], float32, or int32 whose highest bits are those of the PCM `subtype` (libsndfile's
    name; by default the format's own). Raises UserError where the format cannot hold the rate or the channels.
    """
    container, usual = file_format(path)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", rate, channels, subtype or usual, format=container) as file:
            for name in TAGS:
                if tags and name in tags:
                    setattr(file, name, tags[name])
            # libsndfile's Vorbis encoder overruns its stack on one very long write.
            for start in range(0, len(samples), 1 << 16):
                file.write(samples[start : start + (1 << 16)])
    except (soundfile.LibsndfileError, ValueError) as e:
        held = f"{rate} Hz" if channels == 1 else f"{channels} channels at {rate} Hz"
        raise UserError(f"{path}: {container} cannot hold {held} ({reason(e)}); use .wav") from e
    data = bytearray(buffer.getbuffer())
    # libsndfile stamps float WAV files with the time of writing; the same edit shall give the same bytes.
    if (peak := chunk(data, b"PEAK")) is not None:
        data[peak.start + 4 : peak.start + 8] = bytes(4)
    return bytes(data)


def chunk(data: bytes | bytearray, name: bytes, kind: bytes = b"") -> slice | None:
    """Find the content of a WAV file's chunk that begins with `kind`, before its samples; None without one."""
    at = 12 if data[:4] == b"RIFF" and data[8:12] == b"WAVE" else len(data)
    while at + 8 <= len(data) and (found := bytes(data[at : at + 4])) != b"data":
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if found == name and data[at + 8 : at + 8 + len(kind)] == kind:
            return slice(at + 8, at + 8 + size)
        at += 8 + size + size % 2
    return None


def comment(path: Path, most: int = 1 << 20) -> str:
    """Read the comment that a WAV, FLAC or OGG file holds; "" where there is none, or the file is no such one.

    WAV's is read here: libsndfile gives up above 2 KB. `most`: bytes of the file that are searched for it.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(most)
        if head[:4] != b"RIFF":
            with soundfile.SoundFile(path) as opened:
                return str(opened.comment)
    except (soundfile.LibsndfileError, OSError, ValueError):
        return ""
    if (info := chunk(head, b"LIST", b"INFO")) is None:
        return ""
    entries, at = head[info], 4
    while at + 8 <= len(entries):
        size = int.from_bytes(entries[at + 4 : at + 8], "little")
        if entries[at : at + 4] == b"ICMT":
            return entries[at + 8 : at + 8 + size].rstrip(b"\0").decode("utf-8", errors="replace")
        at += 8 + size + size % 2
    return ""


def as_int32(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[np.int32]:
    """PCM values of `bits` bits -> int32 with those bits on top, as `encode` takes them."""
    return np.asarray(samples << (32 - bits), np.int32)
