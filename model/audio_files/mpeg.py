"""MPEG audio (MP3, MP2): its frames, found one by one, since what its headers say of the whole is often wrong.

The decoder gets frames only, without tags and damage between them, of one recording at a time: a Xing header begins a
new one, and so does another rate. Where there is a Xing header it is given the true count; where there is none, the
decoder would guess the length from the first frame's bit rate, which loses most of a VBR file: it is told no end.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .pieces import Part, Pieces, View, bounded

RATES = (44_100, 48_000, 32_000)
KBPS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by version (2 stands for 2.5 too) and layer; version 2's layer 3 has those of its layer 2
(ISO 11172-3, 13818-3)."""
_SYNC = re.compile(rb"\xff[\xe2-\xff]", re.DOTALL)


class Frame(NamedTuple):
    """A frame's header: bytes in all, samples, rate in Hz, and whether it is mono."""

    size: int
    samples: int
    rate: int
    mono: bool
    layer: int
    version: int


def frame(head: bytes) -> Frame | None:
    """Read a frame's header of 4 bytes; None if it is none, or one of free bit rate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = {3: 1, 2: 2, 0: 3}.get(head[1] >> 3 & 3, 0), 4 - (head[1] >> 1 & 3)
    kilo, rate = head[2] >> 4, head[2] >> 2 & 3
    if not version or layer == 4 or kilo in (0, 15) or rate == 3:
        return None
    hertz = RATES[rate] >> (version - 1)
    bits = 1000 * KBPS[1 if version == 1 else 2, layer if version == 1 or layer == 1 else 2][kilo - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and version > 1 else 1152
    padding = head[2] >> 1 & 1
    size = (12 * bits // hertz + padding) * 4 if layer == 1 else samples // 8 * bits // hertz + padding
    return Frame(size, samples, hertz, head[3] >> 6 == 3, layer, version)


def tag(head: bytes) -> int:
    """Return the bytes of the ID3v2 tag that begins with these 10 bytes; 0 if none does."""
    if head[:3] != b"ID3" or len(head) < 10 or head[3] == 0xFF or max(head[6:10]) > 127:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def is_mpeg(view: View, at: int) -> bool:
    """Tell whether three frames, or a whole file of them, lie at this place of the file."""
    for n in range(3):
        found = frame(view.at(at, 4))
        if found is None:
            return n > 0 and at >= view.end
        at += found.size
    return True


def _frames(view: View) -> Iterator[tuple[int, Frame]]:
    """Yield every whole frame and its place, across tags and other bytes. Raises TooMuch if those are too many."""
    at, trusted, stray = view.start, True, 0
    while at + 4 <= view.end:
        head = view.at(at, 10)
        found = frame(head)
        if found is not None and (trusted or is_mpeg(view, at)):
            if at + found.size > view.end:
                return
            yield at, found
            at, trusted = at + found.size, True
            continue
        stray += 1
        bounded(stray=stray)
        if skip := tag(head):
            at, trusted = at + skip, False
        else:
            at, trusted = view.find(_SYNC, at + 1), False
            if at < 0:
                return


def _xing(data: bytes, found: Frame) -> int:
    """Return where in a frame its Xing header is; 0 if it has none."""
    if found.layer != 3:
        return 0
    side = (17 if found.mono else 32) if found.version == 1 else (9 if found.mono else 17)
    return 4 + side if data[4 + side : 8 + side] in (b"Xing", b"Info") else 0


def parts(view: View) -> list[Part]:
    """Return every recording that an MPEG file holds.

    Raises TooMuch if they are too many, or their frames lie apart from each other.
    """
    made: list[Part] = []
    run: list[tuple[int, int]] = []
    first: tuple[bytes, Frame] | None = None
    count, kind, apart = 0, None, 0

    def close() -> None:
        if first is not None or run:
            made.append(_part(view, first, run, count))
            bounded(len(made))

    for at, found in _frames(view):
        data = view.at(at, found.size) if found.layer == 3 else b""
        header = _xing(data, found) > 0
        if header or kind != (found.rate, found.mono, found.layer):
            close()
            run, first, count = [], (data, found) if header else None, 0
            kind = found.rate, found.mono, found.layer
        if data[36:40] == b"VBRI":  # Fraunhofer's table: no sound
            continue
        if not header:
            count += 1
            if run and run[-1][1] == at:
                run[-1] = run[-1][0], at + found.size
            else:
                run.append((at, at + found.size))
                apart += 1
                bounded(pieces=apart)
    close()
    return made


def _part(view: View, first: tuple[bytes, Frame] | None, run: list[tuple[int, int]], count: int) -> Part:
    if first is None:
        return Part(Pieces(view.file, run, endless=True), open=True)
    data, found = bytearray(first[0]), first[1]
    at = _xing(first[0], found)
    (flags,) = struct.unpack_from(">I", data, at + 4)
    field = at + 8
    if flags & 1:
        (named,) = struct.unpack_from(">I", data, field)
        if count < named - 1 and named < 1 << 31:  # some count the header itself
            return Part(Pieces(view.file, []), f"{count * found.samples} of {named * found.samples} frames")
        struct.pack_into(">I", data, field, count)
        field += 4
        if named < count:  # what was appended must not be cut off as padding: keep the delay, drop the padding
            _no_padding(data, at, flags)
    if flags & 2:
        struct.pack_into(">I", data, field, len(data) + sum(end - start for start, end in run))
    return Part(Pieces(view.file, [bytes(data), *run]), open=not flags & 1)


def _no_padding(data: bytearray, at: int, flags: int) -> None:
    lame = at + 8 + 4 * bool(flags & 1) + 4 * bool(flags & 2) + 100 * bool(flags & 4) + 4 * bool(flags & 8)
    if len(data) >= lame + 24:
        data[lame + 22] &= 0xF0
        data[lame + 23] = 0
