"""Audio files made in memory: the bytes of WAV, FLAC and OGG, with what they say of themselves."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile

from ..errors import UsageError, UserError
from ..whole_file import is_stream
from . import wav
from .decoders import reason

# Float WAV holds any level; the others hold at most full scale, so `audio.save` scales what exceeds it and says so.
FORMATS = {".wav": ("WAV", "FLOAT"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}
TAGS = ("title", "copyright", "software", "comment", "license")
"""Names that `encode` takes: WAV's INFO has all but the license, FLAC's and OGG's comments have all."""


def file_format(path: Path) -> tuple[str, str]:
    """Return libsndfile's container and subtype for a path. Raises UsageError for an extension that is not written."""
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
    buffer = io.BytesIO()
    encode_into(buffer, path, [samples], len(samples), rate, subtype=subtype, tags=tags)
    return buffer.getvalue()


def encode_into(
    file: BinaryIO, path: Path, blocks: Iterable[npt.NDArray[Any]], frames: int, rate: int, *,
    subtype: str | None = None, tags: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write what `encode` returns into a file, of samples that come in blocks, `frames` in all.

    Raises OSError where the file takes no more.
    """
    container, usual = file_format(path)
    more = iter(blocks)
    first = next(more)
    channels = 1 if first.ndim == 1 else first.shape[1]
    everything = itertools.chain([first], more)
    if (subtype or usual) == "FLOAT":
        file.write(wav.header(frames, rate, channels, tags))
        for block in everything:
            file.write(np.ascontiguousarray(block, "<f4").data)
        return
    watched = _Watched(file)
    try:
        with soundfile.SoundFile(watched, "w", rate, channels, subtype or usual, format=container) as encoder:
            for name in TAGS:
                if tags and name in tags:
                    setattr(encoder, name, tags[name])
            for block in everything:
                # libsndfile's Vorbis encoder overruns its stack on one very long write.
                for start in range(0, len(block), 1 << 16):
                    encoder.write(block[start : start + (1 << 16)])
    except (soundfile.LibsndfileError, ValueError, AssertionError) as e:
        if watched.failed is None:
            held = f"{rate} Hz" if channels == 1 else f"{channels} channels at {rate} Hz"
            raise UserError(f"{path}: {container} cannot hold {held} ({reason(e)}); use .wav") from e
    if watched.failed is not None:
        raise watched.failed


class _Watched:
    """A file for libsndfile, which calls it back from C: an exception would be printed there and lost."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.failed: OSError | None = None
        self.seek, self.tell, self.read = file.seek, file.tell, file.read

    def write(self, data: bytes) -> int:
        """Write, and remember what fails; nothing is written from then on."""
        try:
            return 0 if self.failed else self.file.write(data)
        except OSError as e:
            self.failed = e
            return 0


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
    """Shift PCM values of `bits` bits to the top of int32, as `encode` takes them."""
    return np.asarray(samples << (32 - bits), np.int32)
