"""FLAC: several streams where files were joined, and a length that may be unknown."""

from __future__ import annotations

from .pieces import Part, Pieces, View

ABSURD = 1 << 35
"""Samples: nine days at 44.1 kHz. What names more has no length (its writer could not go back)."""


def starts(view: View) -> list[int]:
    """Where streams begin: at each marker that a STREAMINFO follows."""
    found, at = [], view.start
    while (at := view.find(b"fLaC", at)) >= 0:
        if view.at(at + 4, 4) in (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22"):
            found.append(at)
        at += 4
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
