"""WAV, RF64, W64, AIFF, 8SVX, CAF and AU: where the samples are, and how many of those that the header names.

Programs that write to a pipe, or that were killed, leave sizes that mean "unknown": 0, or the largest number. Those are
read to the end. Any other size that the file does not reach says that something was cut off.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from .pieces import Part, Pieces, TooMuch, View, bounded

NEAR = 1 << 16
"""How far below 2^31 and 2^32 a size still means "unknown": some programs take the header off."""
MAX_CHUNKS = 10_000
"""Chunks before the samples, or behind; programs write a few."""
ABSURD = 1 << 42
"""Bytes; the hour of samples that is taken has far fewer, whatever their format."""


@dataclass(frozen=True)
class ChunkFormat:
    """The way in which a format lays out its chunks."""

    marks: tuple[bytes, ...]
    """One of these is in every file of the format,"""
    mark: int
    """here."""
    first: int
    """Where the first chunk is."""
    name: int
    """Bytes of a chunk's name."""
    size: str
    """The format of a chunk's size, as `struct` writes it."""
    included: bool
    """Whether a chunk's size counts its own header."""
    align: int
    data: bytes
    """How the name of the chunk with the samples begins."""
    before: int
    """Bytes in that chunk before the samples."""
    format: bytes
    """The chunk that says what a sample is."""
    frame: Callable[[bytes], int]
    """Tells from that chunk's content how many bytes a sample of every channel takes; 0: compressed."""

    @property
    def header(self) -> int:
        """Bytes of a chunk before its content."""
        return self.name + struct.calcsize(self.size)


def _wav_frame(content: bytes, order: str = "<") -> int:
    tag, channels, _, _, _, bits = struct.unpack_from(f"{order}HHIIHH", content)
    return channels * -(-bits // 8) if tag in (1, 3, 0xFFFE) else channels if tag in (6, 7) else 0


def _aiff_frame(content: bytes) -> int:
    channels, _, bits = struct.unpack_from(">hIh", content)
    kind = content[18:22].lower()
    if kind in (b"ulaw", b"alaw"):
        return max(int(channels), 0)
    plain = kind in (b"", b"none", b"sowt", b"twos", b"fl32", b"fl64", b"raw ", b"in24", b"in32")
    return max(channels * -(-bits // 8), 0) if plain else 0


def _caf_frame(content: bytes) -> int:
    return int(struct.unpack_from(">I", content, 16)[0]) if content[8:12] in (b"lpcm", b"ulaw", b"alaw") else 0


W64_MARK = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
CAF_MARK = b"caff\x00\x01\x00\x00"
WAV = ChunkFormat((b"WAVE",), 8, 12, 4, "<I", False, 2, b"data", 0, b"fmt ", _wav_frame)
RIFX = ChunkFormat((b"WAVE",), 8, 12, 4, ">I", False, 2, b"data", 0, b"fmt ", lambda content: _wav_frame(content, ">"))
W64 = ChunkFormat((W64_MARK,), 0, 40, 16, "<Q", True, 8, b"data", 0, b"fmt ", _wav_frame)
AIFF = ChunkFormat((b"AIFF", b"AIFC"), 8, 12, 4, ">I", False, 2, b"SSND", 8, b"COMM", _aiff_frame)
SVX = ChunkFormat((b"8SVX", b"16SV"), 8, 12, 4, ">I", False, 2, b"BODY", 0, b"VHDR", lambda _: 1)
CAF = ChunkFormat((CAF_MARK,), 0, 8, 4, ">q", False, 1, b"data", 4, b"desc", _caf_frame)
KINDS = {b"RIFF": (WAV,), b"RF64": (WAV,), b"BW64": (WAV,), b"RIFX": (RIFX,), b"FORM": (AIFF, SVX), b"caff": (CAF,),
         b"riff": (W64,)}  # fmt: skip
"""Layouts by a file's first four bytes."""


def layout(head: bytes) -> ChunkFormat | None:
    """Return the layout of a file by its first bytes (40 suffice); None if it has none of these formats."""
    return next((kind for kind in KINDS.get(head[:4], ()) if head[kind.mark :].startswith(kind.marks)), None)


def starts(view: View, kind: ChunkFormat) -> list[int]:
    """Find where recordings of one kind begin: more than one place in files that were joined byte for byte.

    Raises TooMuch for too many.
    """
    found, at, stray = [view.start], view.start + 12, 0
    marks = re.compile(b"|".join(map(re.escape, kind.marks)))
    while (at := view.find(marks, at)) >= 0:
        head = view.at(at - kind.mark, 64)
        if layout(head) is kind and _is_name(head[kind.first :]):
            found.append(at - kind.mark)
        else:
            stray += 1
        bounded(len(found), stray=stray)
        at += len(kind.marks[0])
    return found


def _is_name(chunk: bytes) -> bool:
    return chunk[:4].isascii() and chunk[:4].strip().isalnum()


def part(view: View, kind: ChunkFormat) -> Part:
    """Return the recording that fills a view. Raises TooMuch for too many chunks before its samples."""
    at, content, sizes64, where64, comm = view.start + kind.first, b"", b"", 0, 0
    for count in itertools.count():
        _few(count)
        head = view.at(at, kind.header)
        if len(head) < kind.header:  # no samples: the decoder says so
            return Part(Pieces(view.file, [(view.start, view.end)]))
        (size,) = struct.unpack(kind.size, head[kind.name :])
        size -= kind.header if kind.included else 0
        if head.startswith(kind.data):
            break
        if head.startswith(kind.format):
            content, comm = view.at(at + kind.header, min(max(size, 0), 40)), at + kind.header
        if head.startswith(b"ds64") and size >= 24:
            sizes64, where64 = view.at(at + kind.header, 24), at + kind.header
        at += kind.header + max(size, 0)
        at += -(at - view.start) % kind.align
    if len(sizes64) == 24 and size == 0xFFFFFFFF:
        (size,) = struct.unpack_from("<Q", sizes64, 8)
        limit = 1 << 64
    else:
        limit = 1 << (8 * struct.calcsize(kind.size))
    begin = at + kind.header + kind.before
    there, named = max(view.end - begin, 0), size - kind.before
    unknown = named <= 0 and there > 0 and not _chunks(view, at + kind.header + max(size, 0), kind)
    unknown |= size >= ABSURD or any(0 <= each - size <= NEAR for each in (limit - 1, (1 << 31) + NEAR // 2))
    try:
        frame = kind.frame(content)
    except struct.error:
        frame = 0
    if not unknown and named <= there:
        return Part(Pieces(view.file, [(view.start, view.end)]))
    if not unknown:
        if not frame:
            return Part(Pieces(view.file, []), f"{there} of {named} bytes of its samples")
        if there // frame < named // frame:
            return Part(Pieces(view.file, []), f"{there // frame} of {named // frame} frames")
    return Part(_patched(view, kind, at, there, where64, comm, frame))


def _few(chunks: int) -> None:
    """Raise TooMuch beyond MAX_CHUNKS."""
    if chunks > MAX_CHUNKS:
        raise TooMuch(f"more than {MAX_CHUNKS} chunks are beside its samples; convert it to WAV or FLAC")


def _chunks(view: View, at: int, kind: ChunkFormat) -> bool:
    """Tell whether nothing but whole chunks follows: then a size of 0 before them is meant."""
    count = 0
    while at < view.end:
        count += 1
        _few(count)
        head = view.at(at, kind.header)
        if len(head) < kind.header or not _is_name(head):
            return False
        size = int(struct.unpack(kind.size, head[kind.name :])[0])
        at += max(size, kind.header) if kind.included else kind.header + max(size, 0)
        at += -(at - view.start) % kind.align
    return True


def _patched(view: View, kind: ChunkFormat, at: int, there: int, where64: int, comm: int, frame: int) -> Pieces:
    """Return the recording with the true sizes in its header; what follows the samples' begin are samples.

    where64, comm: where the contents of its ds64 and COMM chunks begin; 0: it has none.
    """
    size = kind.before + there + (kind.header if kind.included else 0)
    patches: dict[int, bytes] = {}

    def put(form: str, offset: int, value: int) -> None:
        patches[offset] = struct.pack(form, min(value, (1 << 8 * struct.calcsize(form)) - 1))

    if where64:
        put("<Q", where64, view.end - view.start - 8)
        put("<Q", where64 + 8, there)
        put("<Q", where64 + 16, there // frame if frame else 0)
    else:
        put(kind.size, at + kind.name, size)
        if kind in (WAV, RIFX, AIFF, SVX):
            put(kind.size, view.start + 4, view.end - view.start - 8)
        if kind is W64:
            put("<Q", view.start + 16, view.end - view.start)
    if kind is AIFF and comm and frame:
        put(">I", comm + 2, there // frame)
    pieces: list[bytes | tuple[int, int]] = []
    done = view.start
    for offset, patch in sorted(patches.items()):
        pieces += [(done, offset), patch]
        done = offset + len(patch)
    return Pieces(view.file, [*pieces, (done, view.end)])


AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
"""Bytes of a sample, by encoding."""


def is_au(head: bytes) -> bool:
    """Tell whether a file with these first bytes is Sun's."""
    if head[:4] not in (b".snd", b"dns.") or len(head) < 24:
        return False
    offset, _, encoding, rate, channels = struct.unpack_from((">" if head[:1] == b"." else "<") + "5I", head, 4)
    return bool(24 <= offset < 1 << 20 and encoding < 32 and 0 < rate < 1 << 24 and 0 < channels <= 1024)


def au_starts(view: View) -> list[int]:
    """Return where each Sun file in it starts, as `starts` does for chunks. Raises TooMuch for too many."""
    found, at, stray = [view.start], view.start + 24, 0
    magic = re.compile(re.escape(view.at(view.start, 4)))
    while (at := view.find(magic, at)) >= 0:
        if is_au(view.at(at, 24)):
            found.append(at)
        else:
            stray += 1
        bounded(len(found), stray=stray)
        at += 4
    return found


def au_part(view: View) -> Part:
    """Return the recording of a view that is one Sun file, with its true size in the header."""
    header = bytearray(view.at(view.start, 24))
    order = ">" if header[:1] == b"." else "<"
    offset, size, encoding, _, channels = struct.unpack_from(f"{order}5I", header, 4)
    there = view.end - view.start - offset
    frame = AU_BYTES.get(encoding, 0) * channels
    if size <= there and (size or not there > 0):
        return Part(Pieces(view.file, [(view.start, view.end)]))
    unknown = not size or 0 <= 0xFFFFFFFF - size <= NEAR or 0 <= (1 << 31) + NEAR // 2 - size <= NEAR
    if not unknown and frame and there // frame < size // frame:
        return Part(Pieces(view.file, []), f"{max(there, 0) // frame} of {size // frame} frames")
    if not unknown and not frame:
        return Part(Pieces(view.file, []), f"{there} of {size} bytes of its samples")
    struct.pack_into(f"{order}I", header, 8, min(max(there, 0), 0xFFFFFFFE))
    return Part(Pieces(view.file, [bytes(header), (view.start + 24, view.end)]))
