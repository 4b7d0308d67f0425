"""Edit a clip of any length, from file to file or down a pipe, in memory that does not grow with it.

What grows is on the disk: the clip in mono and the result, 4 bytes a sample each, and in memory 32 bytes of codes a
frame (6 MB an hour). Windows go on with the codes before them, and all codes are decoded in one pass: the codec has no
seams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import mlx.core as mx
import numpy as np

from ..audio import Saved
from ..config import HOP, SAMPLE_RATE
from ..decoding.request import EditRequest, edit_request
from ..decoding.sampling import Sampling
from ..errors import UserError
from ..pipeline import InstructMusicGen
from ..progress import Progress, Tell
from ..results import edit_record as records
from ..system.installation import program_version
from .clip import LongClip, resampled
from .sinks import FileSink, PipeSink, Raw, Sink
from .unfinished import UnfinishedEdit

CHUNK_FRAMES = 50
"""Frames (1 s) that go to the sink at a time."""


@dataclass(frozen=True)
class EditOptions:
    """The options of an edit and of the file it is written to, as of `InstructMusicGen.generate`."""

    text: str
    seed: int = 0
    max_steps: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    guidance: float = 3.0
    window_frames: int | None = None
    stride_frames: int | None = None
    look_ahead_frames: int | None = None
    keep_rate: bool = False
    normalize: bool = False
    resume: bool = False
    """Go on with what an interrupted run of the same order kept."""


@dataclass(frozen=True)
class Done:
    """An edit that is written: its level, and the seconds to its first sound and in all, from the first step on."""

    saved: Saved
    samples: int
    """Samples of the edit, at 32 kHz."""
    rate: int
    first: float
    wall: float


def edit(
    model: InstructMusicGen, clip: LongClip, order: EditOptions, target: Path | BinaryIO, *, kind: Raw = "wav",
    tags: Callable[[int], Mapping[str, str]] | None = None, progress: Progress | None = None,
    tell: Tell = lambda _: None,
) -> Done:  # fmt: skip
    """Edit a clip and write it: to a .wav, .flac or .ogg file when it is whole, or down a pipe as it comes.

    kind: what a pipe gets, WAV of 32-bit floats or "f32", the bare samples. tags: gives the file's tags for its number
    of samples. What is edited of a file is kept until it is whole, if it has several windows; `EditOptions.resume` goes
    on from there, to the bytes that an uninterrupted run writes. tell: takes warnings, a line each.

    Raises what `InstructMusicGen.generate` raises, UserError where the file cannot be written, UsageError if what is
    kept was made with other settings, BrokenPipeError if nobody reads the pipe any more, and KeyboardInterrupt that
    says what is kept.
    """
    samples = clip.frames if order.max_steps is None else min(order.max_steps * HOP, clip.frames)
    frames = -(-samples // HOP)
    plan = model.plan(frames, order.window_frames, order.stride_frames, order.look_ahead_frames)
    asked = edit_request(order.text, 1, plan, order.seed, order.sampling, order.guidance)
    rate, length = _shape(clip, order, samples)
    labels = tags(length) if tags else None
    kept, known = None, None
    sink: Sink
    if isinstance(target, Path):
        sink = FileSink(target, rate, normalize=order.normalize, tags=labels)
        config = model.bundle.config.lm
        kept = UnfinishedEdit(target, _settings(model, clip, order, asked), plan, config.codebooks, config.card)
        known = _known(kept, order, tell)
        if len(plan) > 1 and (why := kept.begin(known)):
            tell(f"{kept.path}: what is edited cannot be kept ({why}), so that --resume will not be possible")
    else:
        sink = PipeSink(target, rate, length, kind=kind, normalize=order.normalize, tags=labels)
    begun, first = time.perf_counter(), 0.0
    parts = (mx.array(block)[None] for block in _first(clip, samples))
    chunks = model.chunks(
        asked, parts, samples, CHUNK_FRAMES, edited=known, on_codes=None if kept is None else kept.add,
        progress=progress,
    )  # fmt: skip
    try:
        sounds = (np.array(chunk.samples[0]) for chunk in chunks)
        for sound in resampled(sounds, SAMPLE_RATE, rate, length):
            sink.add(sound)
            first = first or time.perf_counter() - begun
        wall = time.perf_counter() - begun
        saved = sink.finish()
    except (KeyboardInterrupt, UserError) as e:
        if kept is None or not kept.windows():
            raise
        what = "interrupted" if isinstance(e, KeyboardInterrupt) else str(e)
        goes_on = f"{kept.windows()} of {len(plan)} windows are kept: the same command with --resume goes on"
        raise type(e)(f"{what}; {goes_on}") from None
    if kept is not None:
        kept.end()
    return Done(saved, samples, rate, first, wall)


def _shape(clip: LongClip, order: EditOptions, samples: int) -> tuple[int, int]:
    """Return the rate and the number of samples that are written."""
    if not order.keep_rate or clip.source_rate == clip.rate:
        return clip.rate, samples
    whole = samples == clip.frames
    return clip.source_rate, clip.source_frames if whole else round(samples / clip.rate * clip.source_rate)


def _first(clip: LongClip, samples: int) -> Any:
    left = samples
    for block in clip.blocks():
        if left <= 0:
            return
        yield block[:left]
        left -= len(block)


def _known(kept: UnfinishedEdit, order: EditOptions, tell: Tell) -> mx.array | None:
    if not kept.there():
        if order.resume:
            tell(f"--resume: nothing is kept of {kept.output}; it begins anew")
        return None
    if not order.resume:
        tell(f"an unfinished edit of {kept.output} is forgotten; --resume would have gone on with it")
        return None
    known = kept.resume()
    seconds = 0 if known is None else known.shape[2] * HOP / SAMPLE_RATE
    tell(f"--resume: {seconds:.1f} s are edited already")
    return known


def _settings(model: InstructMusicGen, clip: LongClip, order: EditOptions, asked: EditRequest) -> dict[str, Any]:
    """Return what the codes depend on, by the name that a user knows."""
    window = asked.plan[0]
    last = asked.plan[-1]
    stride = asked.plan[1].offset if len(asked.plan) > 1 else 0
    how = asked.sampling
    return {
        "instruction": order.text, "seed": order.seed, "temperature": how.temperature, "top-k": how.top_k,
        "top-p": how.top_p, "greedy": how.greedy, "guidance": asked.guidance, "frames": last.stop,
        "window frames": window.frames + window.ahead, "stride frames": stride, "look-ahead frames": window.ahead,
        "model": f"{records.name_of(model.bundle)} {records.fingerprint(model.bundle)}", "backend": _backend(model),
        "version": program_version(), "clip": clip.digest(),
    }  # fmt: skip


def _backend(model: InstructMusicGen) -> str:
    """Return what decides how sums are rounded: the number of threads does not, so a run may go on with another."""
    if model.backend != "native":
        return model.backend
    from kernels import native

    info = native.info()
    return f"native {info['isa']}, {info['activations']} activations, {info['caches']} caches"
