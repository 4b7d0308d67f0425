"""Files made of parts of others: what a decoder is given to read, with a corrected header."""

from __future__ import annotations

import bisect
import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

ENDLESS = 1 << 40
"""Bytes added to the length of a stream whose decoder would otherwise stop at its own guess of the length."""
MAX_PARTS = 1000
"""The most recordings that one file may hold: in an hour they are 3.6 s each."""
MAX_PIECES = 1 << 18
"""The most ranges of bytes that one file's recordings may be scattered over: an hour of Ogg pages of 20 ms has
180,000."""
MAX_STRAY = 1 << 18
"""The most marks and tags that begin no recording: chance makes few of them, even in a gigabyte."""
_STEP, _LONGEST = 1 << 20, 64
"""Bytes that `View.find` reads at a time, and the most that its patterns match."""


class TooMuch(Exception):
    """The file takes more time or memory than it may; the message says which, and what to do."""


def too_slow(seconds: float) -> TooMuch:
    """Return the error of a file that took longer than `seconds`."""
    return TooMuch(f"takes longer than {seconds:g} s to decode; convert it to WAV or FLAC, or cut it")


def bounded(parts: int = 0, *, pieces: int = 0, stray: int = 0) -> None:
    """Check what was counted so far in a scan. Raises TooMuch beyond MAX_PARTS, MAX_PIECES or MAX_STRAY."""
    if parts > MAX_PARTS:
        raise TooMuch(f"more than {MAX_PARTS} recordings are joined in it; convert it to one WAV, or split it")
    if pieces > MAX_PIECES:
        raise TooMuch(f"its sound is scattered over more than {MAX_PIECES} pieces; convert it to WAV or FLAC")
    if stray > MAX_STRAY:
        raise TooMuch(f"more than {MAX_STRAY} marks in it begin no sound; convert it to WAV or FLAC")


class Seekable(Protocol):
    """A binary file that can be read anywhere."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset."""

    def tell(self) -> int:
        """Return the current offset."""


class Timed:
    """A file that may be read for so many seconds from now on. `read` raises TooMuch afterwards."""

    def __init__(self, file: Seekable, seconds: float = math.inf) -> None:
        self._file, self._seconds = file, seconds
        self._deadline = time.monotonic() + seconds

    def check(self) -> None:
        """Raise TooMuch if the time is over."""
        if time.monotonic() > self._deadline:
            raise too_slow(self._seconds)

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes, or all that are left."""
        self.check()
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset, and return it from the beginning."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the current offset."""
        return self._file.tell()


@dataclass
class View:
    """Bytes `start` to `end` of a file."""

    file: Seekable
    start: int
    end: int
    _ahead: tuple[int, bytes] = field(default=(0, b""), init=False, repr=False, compare=False)
    """Where `find` read last, and what: many finds in the same bytes read them once."""

    @classmethod
    def whole(cls, file: Seekable) -> View:
        """View all of a file."""
        return cls(file, 0, file.seek(0, os.SEEK_END))

    def at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes from `offset` of the file (not of the view), and none beyond the view."""
        if not 0 <= offset < self.end:
            return b""
        self.file.seek(offset)
        return self.file.read(max(min(size, self.end - offset), 0))

    def find(self, pattern: re.Pattern[bytes], offset: int) -> int:
        """Find where in the file `pattern`, of at most 64 bytes, comes next, from `offset` on; -1 if it does not."""
        while offset < self.end:
            begin, block = self._ahead
            last = begin + len(block) if len(block) < _STEP else begin + len(block) - _LONGEST
            if not begin <= offset < last:
                begin, block = self._ahead = offset, self.at(offset, _STEP)
            if match := pattern.search(block, offset - begin):
                return begin + match.start()
            if len(block) < _STEP:
                break
            offset = begin + len(block) - _LONGEST
        return -1


class Pieces:
    """Bytes, and ranges (start, end) of a file, one after the other, as a file to read.

    With `endless` the end of the file is told far behind the last byte: reading stops at the last byte all the same.
    """

    def __init__(self, file: Seekable, pieces: Sequence[bytes | tuple[int, int]], *, endless: bool = False) -> None:
        self._file = file
        self._pieces = [p for p in pieces if (len(p) if isinstance(p, bytes) else p[1] - p[0])]
        self._starts = [0]
        for p in self._pieces:
            self._starts.append(self._starts[-1] + (len(p) if isinstance(p, bytes) else p[1] - p[0]))
        self.length = self._starts[-1]
        self._end = self.length + (ENDLESS if endless else 0)
        self._at = 0
        self.error: OSError | TooMuch | None = None
        """What stopped reading, if something did: the decoder's callbacks can't raise."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset, and return it from the beginning, as a file does."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """Return the current offset."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, or all that are left. A read error ends the file and is kept in `error`."""
        if size < 0:
            size = max(self.length - self._at, 0)
        if self._at >= self.length:
            # Decoders look for a tag in the last 128 bytes, and give up where they can't be read.
            left = max(self._end - self._at, 0)
            out = bytes(min(size, left)) if left <= 4096 else b""
            self._at += len(out)
            return out
        parts = []
        while size > 0 and self._at < self.length:
            n = bisect.bisect_right(self._starts, self._at) - 1
            piece, skip = self._pieces[n], self._at - self._starts[n]
            if isinstance(piece, bytes):
                got = piece[skip : skip + size]
            else:
                try:
                    self._file.seek(piece[0] + skip)
                    got = self._file.read(min(size, piece[1] - piece[0] - skip))
                except (OSError, TooMuch) as e:
                    self.error, got = e, b""
            if not got:  # the file has become shorter meanwhile
                break
            parts.append(got)
            self._at += len(got)
            size -= len(got)
        return b"".join(parts)


@dataclass(frozen=True)
class Part:
    """One recording in a file; most files have one, joined ones several."""

    data: Pieces
    short: str = ""
    """How much of a length that its header names is there ("5 of 9 frames"), where that is not all."""
    open: bool = False
    """Whether its length is not known before its end: it ends where nothing more can be decoded."""
    note: str = ""
    """What the user should know of it."""
