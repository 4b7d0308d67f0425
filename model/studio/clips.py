"""A clip that was uploaded: decoded within bounds, cut to the region that is edited, and kept as WAV."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .. import audio
from ..errors import UserError
from ..from_input.original import Original, whole_numbers
from ..from_input.split import encoded
from ..whole_file import write_whole
from .edits import level
from .errors import Refused
from .jobs import Input, Source
from .limits import Limits


@dataclass
class _Region:
    """Keeps what lies between two times of a file while it is decoded, and no more than the limits say."""

    name: str
    start: float
    end: float | None
    limits: Limits
    blocks: list[audio.Samples] = field(default_factory=list)
    frames: int = 0
    kept: int = 0

    def __call__(self, block: audio.Samples, rate: int) -> None:
        """Take a block [n, channels] at `rate` Hz."""
        first, last = self.bounds(rate)
        here = block[max(first - self.frames, 0) : None if last is None else max(last - self.frames, 0)]
        self.frames += len(block)
        self.kept += len(here)
        channels = block.shape[1]
        if self.kept > self.limits.clip_seconds * rate or self.kept * channels > self.limits.clip_samples:
            seconds = min(self.limits.clip_seconds, self.limits.clip_samples / channels / rate)
            most = f"{seconds:.0f} s, the most that is taken of {channels} channels at {rate} Hz"
            message = f"{self.name}: what is edited is longer than {most}; choose a shorter region"
            raise Refused(message, "file" if self.end is None else "end")
        if len(here):
            self.blocks.append(here.copy())

    def bounds(self, rate: int) -> tuple[int, int | None]:
        """Return the first frame, and the one behind the last."""
        return round(self.start * rate), None if self.end is None else round(self.end * rate)


def take(
    file: BinaryIO, name: str, start: float, end: float | None, target: Path, limits: Limits,
    source: Source | None = None,
) -> Input:  # fmt: skip
    """Decode a file, of any format that `edit` reads, and write seconds `start` to `end` of it to `target`.

    What is written has the file's own rate, channels and numbers: edits of it are edits of the file. Raises UserError
    with the command line's sentences, and Refused where the times don't fit the clip.
    """
    name = plain_name(name)
    region = _Region(name, start, end, limits)
    mono = audio.read_mix(name, file, region, decode_seconds=limits.decode_seconds)
    total, rate = len(mono.samples), mono.rate
    mono.samples.close()
    if region.frames != total or len({block.shape[1] for block in region.blocks}) > 1:
        raise UserError(f"{name}: recordings of different rates or channels are joined; convert it to one WAV first")
    first, last = region.bounds(rate)
    last = total if last is None else last
    have = f"{name} has {total / rate:.2f} s"
    if first >= total:
        raise Refused(f"start: {start:g} is after the clip's end ({have}); give an earlier start", "start")
    if last > total + 1 + round(rate / 1000):  # times are often rounded to milliseconds
        raise Refused(f"end: {end:g} is after the clip's end ({have}); give an earlier end", "end")
    last = min(last, total)
    kept = whole_numbers(file, total, rate, first, last)
    if kept is None:
        kept = Original(np.concatenate(region.blocks), rate, None)
    data = encoded(target, kept, {})
    clip = audio.load_open(name, io.BytesIO(data))  # a region can be silent, or too short, where the file is not
    whole = (first, last) == (0, total)
    write_whole({target: data}, make_folders=False)
    found = level(clip.samples)
    assert found is not None
    return Input(
        name, first / rate, last / rate, rate, kept.samples.shape[1], last - first, len(clip.samples), found,
        _digest(file) if whole else hashlib.sha256(data).hexdigest(), whole, source,
    )  # fmt: skip


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    found = hashlib.sha256()
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()


def plain_name(given: str) -> str:
    """Return a file's name as it is shown and offered: without folders and control characters, at most 100 long."""
    name = re.split(r"[\\/]", given)[-1]
    name = "".join(c if c.isprintable() and c not in '"<>|*?:' else "_" for c in name).strip(" .")
    stem, dot, kind = name.rpartition(".")
    return (f"{stem[:90]}{dot}{kind[:9]}" if stem else name[:100]) or "clip"
