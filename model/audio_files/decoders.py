"""Who decodes a part: libsndfile, or for what it does not know (AAC, ALAC, WMA in MP4 and others) PyAV or ffmpeg."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import soundfile

from ..errors import UserError
from . import chunked
from .pieces import Part, Pieces, TooMuch, View, too_slow

Block = npt.NDArray[np.float32]
MAX_COPY = 1 << 32
"""Bytes that are copied to a temporary file: an hour of samples in any common format is less."""

HOW = "pip install 'instruct-musicgen-mlx[m4a]', or install ffmpeg, or convert it to WAV or FLAC"


class Undecodable(Exception):
    """The file cannot be decoded, or not further; the message is the decoder's reason."""


class NoDecoder(Exception):
    """Neither PyAV nor ffmpeg is installed; the message says how to get one."""


@dataclass(frozen=True)
class Track:
    """A part that is open: its rate in Hz, channels, the frames its decoder promises, and its samples."""

    rate: int
    channels: int
    frames: int | None
    blocks: Iterator[Block]
    """float32 [n, channels]. Raises Undecodable where it cannot go on; what came before is good."""
    format: str = ""


@contextmanager
def sndfile(part: Part, block: int) -> Iterator[Track]:
    """Open with libsndfile; blocks hold `block` samples. Raises Undecodable, and TooMuch as the part's file does."""
    try:
        file = soundfile.SoundFile(part.data)
    except (soundfile.LibsndfileError, TypeError, OSError) as e:  # TypeError: raw samples, of unknown rate
        _check(part.data)
        raise Undecodable(reason(e)) from e
    with file:
        known = not part.open and file.frames < 1 << 60
        frames = int(file.frames) if known else None
        yield Track(int(file.samplerate), int(file.channels), frames, _blocks(file, part.data, block), file.format)


def _blocks(file: soundfile.SoundFile, data: Pieces, samples: int) -> Iterator[Block]:
    rows = max(1, samples // file.channels)
    while True:
        out = np.full((min(rows, max(file.frames - file.tell(), 1)), file.channels), np.nan, np.float32)
        try:
            block: Block = file.read(out=out, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as e:
            _check(data)
            # What was decoded before the fault is in `out`; the rest of it is untouched.
            untouched = np.isnan(out).all(axis=1)
            if good := int(np.argmax(untouched)) if untouched.any() else len(out):
                yield out[:good]
            raise Undecodable(reason(e)) from e
        _check(data)
        if not len(block):
            return
        yield block


def _check(data: Pieces) -> None:
    """Raise what stopped reading, which decoders take for the file's end: TooMuch, or Undecodable."""
    if isinstance(data.error, TooMuch):
        raise data.error
    if data.error is not None:
        raise Undecodable(reason(data.error)) from data.error


def demuxer(head: bytes) -> str:
    """Return ffmpeg's name for a file's container by its first bytes (40 suffice), or "" if it is not read here."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:8] == b"\x30\x26\xb2\x75\x8e\x66\xcf\x11":
        return "asf"
    if head[:2] in (b"\xff\xf1", b"\xff\xf9", b"\xff\xf0", b"\xff\xf8"):
        return "aac"
    return {b"RIFF": "wav", b"FORM": "aiff", b"caff": "caf", b"riff": "w64"}.get(head[:4], "")


def shortage(view: View) -> str:
    """Say how much of an MP4 is there if a box is cut off; "" if all of it is."""
    at = view.start
    while at + 8 <= view.end:
        head = view.at(at, 16)
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size or view.end - at
        if size < 8 or not head[4:8].isascii():
            return ""
        if at + size > view.end:
            return f"{view.end - view.start} of {at + size - view.start} bytes"
        at += size
    return ""


@contextmanager
def other(view: View, name: str, seconds: int, decode_seconds: float = math.inf) -> Iterator[Track]:
    """Open with PyAV, else with ffmpeg, as the container `name`, up to `seconds`. Raises Undecodable or NoDecoder.

    Raises TooMuch where ffmpeg takes longer than `decode_seconds`, or reading the view's file does.

    The container is fixed by the caller, and the file is given as bytes: nothing in it can make the decoder open
    another file or a network address.
    """
    try:
        import av
    except ImportError:
        if shutil.which("ffmpeg") is None:
            raise NoDecoder(HOW) from None
        with _ffmpeg(view, name, seconds, decode_seconds) as track:
            yield track
        return
    data = Pieces(view.file, [(view.start, view.end)])
    try:
        with closing(av.open(cast(Any, data), format=name)) as container:
            if not container.streams.audio:
                raise Undecodable("it has no sound")
            stream = container.streams.audio[0]
            rate, channels = getattr(stream, "rate", None), getattr(stream, "channels", None)  # no codec: neither
            if not rate or not channels:
                raise Undecodable("it does not say its rate and channels")
            yield Track(rate, channels, None, _av_blocks(av, container, stream, data), name)
    except (av.FFmpegError, ValueError) as e:
        _check(data)
        raise Undecodable(reason(e)) from e


def _av_blocks(av: Any, container: Any, stream: Any, data: Pieces) -> Iterator[Block]:
    planes = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    try:
        for frame in container.decode(stream):
            for each in planes.resample(frame):
                yield np.ascontiguousarray(each.to_ndarray().T, dtype=np.float32)
    except (av.FFmpegError, ValueError) as e:
        _check(data)
        raise Undecodable(reason(e)) from e
    _check(data)


@contextmanager
def _ffmpeg(view: View, name: str, seconds: int, decode_seconds: float) -> Iterator[Track]:
    with tempfile.NamedTemporaryFile(suffix=f".{name}") as source, tempfile.TemporaryFile() as out:
        data = Pieces(view.file, [(view.start, view.end)])
        copy(data, source)
        _check(data)
        try:
            done = subprocess.run(
                ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-f", name,
                 "-i", f"file:{source.name}", "-vn", "-t", str(seconds + 1), "-c:a", "pcm_f32le", "-f", "wav", "-"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, check=False,
                timeout=None if math.isinf(decode_seconds) else decode_seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise too_slow(decode_seconds) from None
        said = done.stderr.decode(errors="replace").strip().splitlines()
        written = View.whole(out)
        if done.returncode or written.end <= 44:
            raise Undecodable(said[-1] if said else f"ffmpeg ended with {done.returncode}")
        with sndfile(chunked.part(written, chunked.WAV), 1 << 20) as track:
            yield track


def copy(source: Any, target: IO[bytes]) -> None:
    """Copy all bytes of `source` to `target`. Raises UserError if they are more than MAX_COPY."""
    total = 0
    while block := source.read(1 << 20):
        total += len(block)
        if total > MAX_COPY:
            raise UserError(f"more than {MAX_COPY >> 30} GiB; cut it into parts")
        target.write(block)
    target.flush()
    target.seek(0, os.SEEK_SET)


def reason(e: Exception) -> str:
    """Return an error's own words, on one line."""
    if isinstance(e, OSError) and e.strerror:
        return str(e.strerror).lower()
    return (getattr(e, "error_string", None) or str(e)).strip().rstrip(".").replace("\n", " ")
