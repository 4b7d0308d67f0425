"""FLAC: several streams where files were joined, and a length that may be unknown."""

from __future__ import annotations

import re

from .pieces import Part, Pieces, View, bounded

ABSURD = 1 << 35
"""Samples: nine days at 44.1 kHz. What names more has no length (its writer could not go back)."""
_STREAM = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
"""A marker, and the header of the STREAMINFO that follows: the last block before the sound, or not."""


def starts(view: View) -> list[int]:
    """Find where streams begin: at each marker that a STREAMINFO follows. Raises TooMuch if they are too many."""
    found: list[int] = []
    at = view.start
    while (at := view.find(_STREAM, at)) >= 0:
        found.append(at)
        bounded(len(found))
        at += 8
    return found


def part(view: View) -> Part:
    """Return the stream that fills a view."""
    header = bytearray(view.at(view.start, 42))
    total = int.from_bytes(header[21:26], "big") & (1 << 36) - 1
    if len(header) == 42 and (total == 0 or total >= ABSURD):
        header[21] &= 0xF0
        header[22:26] = bytes(4)
        return Part(Pieces(view.file, [bytes(header), (view.start + 42, view.end)]), open=True)
    return Part(Pieces(view.file, [(view.start, view.end)]))
