"""Files made to cost much: the time and the memory of a scan grow with a file's bytes, and end at limits."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc

import numpy as np
import pytest

from model import audio
from model.audio_files import pieces
from model.errors import UserError

from .test_decoders import mp4
from .test_lengths import NOISE, PLAIN, UNKNOWN, encoded, vbr

MONO, STEREO = b"\xff\xe3\x14\xc0" + bytes(44), b"\xff\xe3\x14\x00" + bytes(44)
"""Frames of MPEG 2.5, layer 3, 8 kbit/s at 12 kHz."""


def page(flag: int, serial: bytes, body: bytes) -> bytes:
    return b"OggS\0" + bytes([flag]) + bytes(8) + serial + bytes(8) + bytes([1, len(body)]) + body


def chunks(head: bytes, chunk: bytes, size: int) -> bytes:
    return head + chunk * ((size - len(head)) // len(chunk))


SIZE = 1 << 20
LINK = page(2, b"aaaa", b"OpusHead") + page(0, b"aaaa", b"x")
HOSTILE = {
    "flac": (b"fLaC\x80\0\0\x22", "recordings"),
    "wav": (b"RIFF\x04\0\0\0WAVEfmt ", "recordings"),
    "aiff": (b"FORM\0\0\0\x04AIFFCOMM", "recordings"),
    "caf": (b"caff\0\x01\0\0desc", "recordings"),
    "w64": (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0" + bytes(24) + b"fmt ", "recordings"),
    "au": (struct.pack(">4s5I", b".snd", 24, 0, 3, 8000, 1), "recordings"),
    "mp3": (MONO + STEREO, "recordings"),
    "ogg": (LINK, "recordings"),
    "wav chunks": (b"junk\0\0\0\0", "chunks"),
    "aiff chunks": (b"JUNK\0\0\0\0", "chunks"),
    "caf chunks": (b"junk" + bytes(8), "chunks"),
}
HEADS = {
    "wav chunks": b"RIFF\xff\xff\xff\x7fWAVE", "aiff chunks": b"FORM\x7f\xff\xff\xffAIFF",
    "caf chunks": b"caff\0\x01\0\0",
}  # fmt: skip


class Counting(io.BytesIO):
    """A file that counts the bytes that are read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.count += len(found)
        return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_parts_and_chunks_without_end_are_refused_in_little_memory(kind: str) -> None:
    unit, what = HOSTILE[kind]
    file = Counting(chunks(HEADS.get(kind, b""), unit, SIZE))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=rf"^clip: more than \d+ {what} .*convert it"):
            audio.load_open("clip", file)
        assert tracemalloc.get_traced_memory()[1] < 6 * SIZE
    finally:
        tracemalloc.stop()
    assert file.count < 4 * SIZE


JUNK = {
    "flac": (encoded(NOISE[:4000], "FLAC", "PCM_16"), b"fLaC"),
    "wav": (encoded(NOISE[:4000], "WAV", "PCM_16"), b"RIFF....WAVE...."),
    "au": (encoded(NOISE[:4000], "AU", "PCM_16"), b".snd...."),
    "mp3": (vbr(NOISE[:4000]), b"\xff\xe2"),
    "ogg": (encoded(NOISE[:4000], "OGG", "VORBIS"), b"OggS"),
}


@pytest.mark.parametrize("kind", JUNK)
def test_marks_that_begin_nothing_are_read_a_few_times_each(kind: str) -> None:
    """Not a megabyte for each of them, as it once was: then this reads gigabytes."""
    sound, mark = JUNK[kind]
    file = Counting(chunks(sound, mark, SIZE // 8))
    assert audio.load_open("clip", file).source_frames >= 4000
    assert file.count < 100 * SIZE // 8


@pytest.mark.parametrize("kind", ["wav", "au", "mp3", "ogg", "tags"])
def test_too_many_marks_that_begin_nothing_are_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MAX_STRAY", 50)
    sound, mark = (b"", b"ID3\4\0\0\0\0\0\0") if kind == "tags" else JUNK[kind]
    with pytest.raises(UserError, match="more than 50 marks in it begin no sound; convert it"):
        audio.load_open("clip", io.BytesIO(chunks(sound, mark, SIZE // 8)))


@pytest.mark.parametrize(("data", "between"), [
    (MONO * 3, b"\0"), (page(0, b"aaaa", b"x"), page(0, b"bbbb", b"x")),
])  # fmt: skip
def test_sound_in_too_many_pieces_is_refused(data: bytes, between: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MAX_PIECES", 50)
    head = LINK if data.startswith(b"OggS") else data
    with pytest.raises(UserError, match="scattered over more than 50 pieces; convert it"):
        audio.load_open("clip", io.BytesIO(head + (between + data) * 60))


def test_a_long_header_before_samples_of_unknown_length_is_not_copied() -> None:
    data = encoded(NOISE, "WAV", "PCM_16")
    long = data[:36] + b"junk" + struct.pack("<I", 8 * SIZE) + bytes(8 * SIZE) + b"data\xff\xff\xff\xff" + data[44:]
    tracemalloc.start()
    try:
        clip = audio.load_open("clip", io.BytesIO(long))
        assert tracemalloc.get_traced_memory()[1] < 7 * SIZE
    finally:
        tracemalloc.stop()
    assert clip.source_frames == len(NOISE)


@pytest.mark.parametrize("head", [
    b"FORM\0\0\0\x20AIFFCOMM\0\0\0\x12\0\x01\0\0\0\0\0\x10\x40\x0b\xfa\0\0\0\0\0\0\0SSND\xff\xff\xff\xff\0",
    b"RF64\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0"
    b"ds64\0\0\0\0data\xff\xff\xff\xff",
])  # fmt: skip
def test_headers_that_end_too_soon_are_an_error_and_no_crash(head: bytes) -> None:
    with pytest.raises(UserError, match=r"^clip: "):
        audio.load_open("clip", io.BytesIO(head))


def test_the_most_parts_that_are_taken_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    one = encoded(NOISE[:2000], "FLAC", "PCM_16")
    monkeypatch.setattr(pieces, "MAX_PARTS", 7)
    clip = audio.load_open("clip", io.BytesIO(one * 7))
    assert clip.source_frames == 14_000 and np.array_equal(clip.samples[:2000], clip.samples[-2000:])
    with pytest.raises(UserError, match="more than 7 recordings"):
        audio.load_open("clip", io.BytesIO(one * 8))


def test_joined_parts_over_many_blocks_of_the_scan_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a block of the scan ends: within a mark, before it, behind it."""
    one, want = encoded(NOISE[:1000], "FLAC", "PCM_16"), 9
    for step in range(65, 65 + len(one), 97):
        monkeypatch.setattr(pieces, "_STEP", step)
        assert audio.load_open("clip", io.BytesIO(one * want)).source_frames == 1000 * want


def test_a_part_of_a_low_rate_is_not_resampled_beyond_the_limits() -> None:
    """A second at 1 Hz is a sample in the file, and 768,000 in the clip."""
    first = encoded(NOISE[:40_000], "WAV", "PCM_U8", 768_000)
    second = encoded(NOISE[:3000], "WAV", "PCM_U8", 1)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="longer than 3600 s or"):
            audio.load_open("clip", io.BytesIO(first + second))
        assert tracemalloc.get_traced_memory()[1] < 64 * SIZE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("container", ["WAV", "AU", "CAF"])
def test_a_rate_that_no_converter_has_is_refused_before_memory_is_taken_for_it(container: str) -> None:
    data = encoded(NOISE, container, "PCM_16", 30_000_000)
    with pytest.raises(UserError, match=r"^clip: its header names 30000000 Hz; rates of up to 768000 Hz are taken"):
        audio.load_open("clip", io.BytesIO(data))
    assert audio.load_open("clip", io.BytesIO(encoded(NOISE, container, "PCM_16", 768_000))).source_rate == 768_000


class Clock:
    """A clock that goes on a second each time that it is looked at."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


TIMED = {
    **{kind: encoded(NOISE, *PLAIN[kind]) for kind in PLAIN},
    **{kind: encoded(NOISE, "OGG" if kind != "FLAC" else kind, kind if kind != "FLAC" else "PCM_16", 48_000)
       for kind in ("FLAC", "VORBIS", "OPUS")},
    "mp3": vbr(NOISE), "unknown": UNKNOWN["wav 0xffffffff"][1](encoded(NOISE, "WAV", "PCM_16")),
}  # fmt: skip


@pytest.mark.parametrize("kind", [*TIMED, "alac", "aac", "matroska"])
def test_wherever_the_time_runs_out_the_message_says_so(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the scan, when the decoder opens the file, or in its midst: never a shorter clip, never another reason."""
    data = TIMED.get(kind) or (mp4("flac", "matroska") if kind == "matroska" else mp4(kind))
    refused = 0
    while True:
        monkeypatch.setattr(time, "monotonic", Clock())
        try:
            clip = audio.read_mix("clip", io.BytesIO(data), decode_seconds=refused)
        except UserError as e:
            assert str(e) == f"clip: takes longer than {refused} s to decode; convert it to WAV or FLAC, or cut it"
            refused += 1 + refused // 8
        else:
            break
    monkeypatch.undo()
    assert refused > 3 and len(clip.samples) == len(audio.read_mix("clip", io.BytesIO(data)).samples)
    assert capfd.readouterr() == ("", "")
