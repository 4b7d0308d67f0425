"""The header of a WAV file of 32-bit floats: made before its samples, so that they can be written as they come."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ..errors import UserError

FLOAT = 3
"""WAVE_FORMAT_IEEE_FLOAT; such a file names its frames in a fact chunk."""
INFO = {"title": b"INAM", "copyright": b"ICOP", "software": b"ISFT", "comment": b"ICMT"}
LARGEST = 2**32 - 1
"""Bytes that a RIFF file can hold."""


def header(frames: int, rate: int, channels: int = 1, tags: Mapping[str, str] | None = None) -> bytes:
    """Return what stands before `frames` samples of each channel; tags: those of `INFO` are taken.

    Raises UserError where the file would be larger than WAV can be.
    """
    info = b"".join(_chunk(key, tags[name].encode() + b"\0") for name, key in INFO.items() if tags and tags.get(name))
    size = 4 * channels * frames
    kind = struct.pack("<HHIIHHH", FLOAT, channels, rate, min(4 * channels * rate, LARGEST), 4 * channels, 32, 0)
    chunks = _chunk(b"fmt ", kind) + _chunk(b"fact", struct.pack("<I", frames))
    if info:
        chunks += _chunk(b"LIST", b"INFO" + info)
    riff = 4 + len(chunks) + 8 + size
    if riff > LARGEST:
        raise UserError(f"{frames} samples of {channels} channels are more than a WAV file holds (4 GiB); use .flac")
    return b"RIFF" + struct.pack("<I", riff) + b"WAVE" + chunks + b"data" + struct.pack("<I", size)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
