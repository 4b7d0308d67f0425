"""An edit as a notebook shows it: a player and a spectrogram each, in HTML that needs no other file."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..audio_files.writing import encode
from ..spectra import Array, log_mel

WIDTH, HEIGHT = 600, 80
"""Pixels of a spectrogram; a row is a mel band."""
LOWEST, HIGHEST = -54.0, 20.0
"""Decibels that are drawn black and white."""
COLORS = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], dtype=np.float64)
"""Five points of matplotlib's "magma" (BSD)."""


class Sound(NamedTuple):
    """One sound to show: a caption, samples [n] or [n,channels], and their rate in Hz."""

    caption: str
    samples: Array
    rate: int


def page(sounds: Sequence[Sound]) -> str:
    """Return HTML with a player, the caption and a log-mel spectrogram of each sound."""
    parts = []
    for caption, samples, rate in sounds:
        peak = float(np.abs(samples).max(initial=0.0))
        # 16 bits: half the size, and every browser plays it; what exceeds full scale would be cut off.
        quiet = samples / peak if peak > 1 else samples
        wav = encode(Path("player.wav"), np.asarray(quiet, np.float32), rate, subtype="PCM_16")
        parts.append(
            f"<figure style='margin:0 0 1em 0'><figcaption>{html.escape(caption)}</figcaption>"
            f"<img alt='spectrogram' style='display:block' width={WIDTH} height={HEIGHT * 2} "
            f"src='{_data('image/png', png(picture(samples, rate)))}'>"
            f"<audio controls style='width:{WIDTH}px' src='{_data('audio/wav', wav)}'></audio></figure>"
        )
    return "<div>" + "".join(parts) + "</div>"


def picture(samples: Array, rate: int) -> npt.NDArray[np.uint8]:
    """Draw a log-mel spectrogram: RGB [HEIGHT, WIDTH, 3], low bands at the bottom."""
    from ..audio import resample
    from ..config import SAMPLE_RATE

    mono = resample(samples if samples.ndim == 1 else samples.mean(axis=1), rate, SAMPLE_RATE)
    level = log_mel(np.pad(mono, (0, max(0, 2048 - len(mono)))))
    edges = np.linspace(0, level.shape[1], WIDTH + 1).astype(int)
    columns = np.stack([level[:, a : max(b, a + 1)].max(axis=1) for a, b in pairwise(edges)], axis=1)
    shade = np.clip((columns - LOWEST) / (HIGHEST - LOWEST), 0, 1)[::-1]
    points = np.linspace(0, 1, len(COLORS))
    return np.stack([np.interp(shade, points, COLORS[:, k]) for k in range(3)], axis=-1).astype(np.uint8)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Pack RGB pixels [height, width, 3] as a PNG file (ISO 15948), without filters."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes()))
        + chunk(b"IEND", b"")
    )


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
