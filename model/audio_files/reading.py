"""Every part of a file as one clip in mono."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import soxr

from ..errors import UserError
from . import chunked, flac, mpeg, ogg
from .decoders import NoDecoder, Track, Undecodable, demuxer, other, shortage, sndfile
from .pieces import Part, Pieces, Timed, TooMuch, View, bounded
from .spool import Spool

Samples = npt.NDArray[np.float32]
LOUDEST = 1000.0
"""Times full scale, 60 dB: samples beyond are integers that were stored as floats, or no audio at all."""
_RESAMPLED = 1 << 22
"""Samples that are resampled at a time, after it."""
Keep = Callable[[Samples, int], None]
"""A function that takes each block of samples [n, channels] as it was decoded, and its rate in Hz."""


@dataclass(frozen=True)
class LengthLimits:
    """The limits of a recording that is read: its seconds, frames and Hz, and seconds that decoding may last."""

    seconds: int
    frames: int
    rate: int
    decode_seconds: float = math.inf

    def frames_at(self, rate: int) -> int:
        """Return the frames allowed at `rate` Hz."""
        return min(self.frames, self.seconds * rate)


@dataclass
class Mono:
    """The mean of a file's channels [n] at `rate` Hz, and what was in them."""

    samples: Spool
    rate: int
    channels: int
    peak: float
    """Largest absolute sample of any channel."""
    mono_peak: float
    """Largest absolute sample of the mean."""
    lost: float
    """Power of the mean over the mean power of the channels: 1 where they are equal, 0 where they cancel."""
    notes: list[str] = field(default_factory=list)


def recordings(view: View) -> list[Part]:
    """Return the parts of a file, by its content; its name says nothing here. Raises TooMuch for too many."""
    start = view.start
    for n in itertools.count():
        bounded(stray=n)
        if not (skip := mpeg.tag(view.at(start, 10))):
            break
        start += skip
    head = view.at(start, 40)
    inner = View(view.file, start, view.end)
    if kind := chunked.layout(head):
        return [chunked.part(each, kind) for each in _cut(inner, chunked.starts(inner, kind))]
    if chunked.is_au(head):
        return [chunked.au_part(each) for each in _cut(inner, chunked.au_starts(inner))]
    if head.startswith(b"fLaC"):
        return [flac.part(each) for each in _cut(inner, flac.starts(inner) or [start])]
    if head.startswith(b"OggS"):
        return ogg.parts(inner)
    if mpeg.is_mpeg(inner, start):
        return mpeg.parts(inner)
    return [Part(Pieces(view.file, [(view.start, view.end)]))]


def _cut(view: View, starts: list[int]) -> list[View]:
    return [View(view.file, start, stop) for start, stop in zip(starts, [*starts[1:], view.end])]


def read_mono(name: str, view: View, limits: LengthLimits, block: int, keep: Keep | None = None) -> Mono:
    """Decode every part, `block` samples at a time. Raises UserError for bad files, and for what exceeds the limits.

    No copy of every channel is held; `keep`, if given, is told each block.
    """
    timed = Timed(view.file, limits.decode_seconds)
    try:
        return _read_mono(name, View(timed, view.start, view.end), _Mix(name, limits, timed, keep), block)
    except TooMuch as e:
        raise UserError(f"{name}: {e}") from e


def _read_mono(name: str, view: View, mix: _Mix, block: int) -> Mono:
    parts = recordings(view)
    for n, part in enumerate(parts):
        where = f"{name}, recording {n + 1} of {len(parts)}" if len(parts) > 1 else name
        if part.short:
            raise UserError(f"{where}: truncated ({part.short} can be read); get a whole copy")
        try:
            mix.take(sndfile(part, block), where, open_end=part.open, first=n == 0)
        except Undecodable as e:
            container = demuxer(view.at(view.start, 40)) if len(parts) == 1 else ""
            if not container or mix.frames:
                raise _unreadable(where, e) from e
            _take_other(mix, view, container, where, e)
        if part.note:
            mix.notes.append(part.note)
    if len(parts) > 1:
        mix.notes.append(f"{len(parts)} recordings joined in one file; all are taken")
    return mix.done()


def _take_other(mix: _Mix, view: View, container: str, where: str, first: Undecodable) -> None:
    """Take a part by a decoder that knows more formats; `first` says why libsndfile could not."""
    if container == "mov" and (short := shortage(view)):
        raise UserError(f"{where}: truncated ({short} are there); get a whole copy")
    try:
        limits = mix.limits
        mix.take(other(view, container, limits.seconds, limits.decode_seconds), where, open_end=False, first=True)
    except NoDecoder as e:
        raise UserError(f"{where}: cannot be read without another decoder ({first}); {e}") from e
    except Undecodable as e:
        raise _unreadable(where, e) from e


def _unreadable(where: str, e: Undecodable) -> UserError:
    return UserError(f"{where}: not audio that can be read ({e}); convert it to WAV or FLAC")


class _Mix:
    """Blocks of channels in, one mono clip out."""

    def __init__(self, name: str, limits: LengthLimits, timed: Timed, keep: Keep | None = None) -> None:
        self.name, self.limits, self.timed, self.keep = name, limits, timed, keep
        self.rate = self.channels = self.frames = 0
        self.peak = self.channel_power = self.power = 0.0
        self.mono_peak = 0.0
        self.samples = Spool()
        self.notes: list[str] = []

    def take(self, opened: AbstractContextManager[Track], where: str, *, open_end: bool, first: bool) -> None:
        """Take all samples of a part. Raises Undecodable if nothing at all could be decoded."""
        with opened as track:
            if track.rate > self.limits.rate:
                raise UserError(
                    f"{where}: its header names {track.rate} Hz; rates of up to {self.limits.rate} Hz are taken; "
                    "resample it"
                )
            most = self.limits.frames_at(track.rate)
            if track.frames is not None and track.frames > most:
                raise UserError(
                    f"{where}: its header names {track.frames} frames at {track.rate} Hz; at most "
                    f"{self.limits.seconds} s and {self.limits.frames} frames are taken; cut it into parts"
                )
            if first:
                self.rate, self.channels = track.rate, track.channels
            frames, to_rate = 0, None
            if track.rate != self.rate:
                to_rate = soxr.ResampleStream(track.rate, self.rate, 1, dtype="float32", quality="VHQ")
            try:
                for block in track.blocks:
                    self.timed.check()
                    self._add(block, frames, track.rate, to_rate)
                    frames += len(block)
            except Undecodable as e:
                if not frames:
                    raise
                if track.frames is not None:
                    raise UserError(
                        f"{where}: truncated or damaged ({frames} of {track.frames} frames can be read: {e}); "
                        "get a whole copy"
                    ) from e
                self.notes.append(f"it ends in what cannot be decoded ({e}); the {frames} frames before are taken")
            if track.frames is not None and frames < track.frames and not open_end and track.format != "MP3":
                raise UserError(f"{where}: truncated ({frames} of {track.frames} frames can be read); get a whole copy")
        if to_rate is not None and frames:
            self._keep(to_rate.resample_chunk(np.zeros(0, np.float32), last=True))
            self.notes.append(f"a part at {track.rate} Hz is resampled to the first one's {self.rate} Hz")

    def _add(self, block: Samples, before: int, rate: int, to_rate: soxr.ResampleStream | None) -> None:
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            at = (before + int(np.argmin(finite))) / rate
            raise UserError(f"{self.name}: NaN or infinite samples (the first at {at:.3f} s); repair the file")
        self.frames += len(block)
        there = len(self.samples) + len(block) * self.rate // rate
        if self.frames > self.limits.frames_at(rate) or there > self.limits.frames_at(self.rate):
            raise UserError(
                f"{self.name}: longer than {self.limits.seconds} s or {self.limits.frames} frames; cut it into parts"
            )
        if not len(block):
            return
        loud = np.abs(block).max(axis=1)
        if (peak := float(loud.max())) > LOUDEST:
            at = (before + int(np.argmax(loud > LOUDEST))) / rate
            raise UserError(
                f"{self.name}: samples of up to {peak:.6g}, where full scale is 1 (the first at {at:.3f} s); if "
                "they are integers stored as floats, divide them by their full scale, else repair the file"
            )
        if self.keep is not None:
            self.keep(block, rate)
        self.peak = max(self.peak, peak)
        one = block.shape[1] == 1
        mono = block[:, 0] if one else block.mean(axis=1, dtype=np.float64).astype(np.float32)
        power = float(np.square(mono, dtype=np.float64).sum())
        self.power += power
        self.channel_power += power if one else float(np.square(block, dtype=np.float64).sum()) / block.shape[1]
        if to_rate is None:
            self._keep(mono)
            return
        step = max(1, _RESAMPLED * rate // self.rate)  # a few samples of a low rate are millions of a high one
        for at in range(0, len(mono), step):
            self._keep(to_rate.resample_chunk(mono[at : at + step]))

    def _keep(self, mono: Samples) -> None:
        self.mono_peak = max(self.mono_peak, float(np.abs(mono).max(initial=0.0)))
        self.samples.append(mono)

    def done(self) -> Mono:
        """Return what was taken. Raises UserError where that is nothing."""
        if not self.frames:
            raise UserError(f"{self.name}: no samples (zero length); give a clip with sound in it")
        kept = self.power / self.channel_power if self.channel_power else 1.0
        return Mono(self.samples, self.rate, self.channels, self.peak, self.mono_peak, kept, self.notes)
