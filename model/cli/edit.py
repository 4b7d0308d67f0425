"""`instruct-musicgen edit`: a clip and an instruction in, the edited file out."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from .clips import (
    STREAM,
    at_rate,
    check_names,
    drawn,
    progress_bar,
    standard_input,
    tell_of_clip,
    tell_of_level,
    told_sentence,
)
from .opening import backend_of, opened, recorded, sampling, told

if TYPE_CHECKING:
    from ..audio import Clip, Samples
    from ..pipeline import InstructMusicGen


def run(arguments: argparse.Namespace) -> None:
    """Edit one file or many, in the way that is asked for."""
    from . import several

    several.check(arguments)
    if several.asked(arguments):
        several.run(arguments)
        return
    arguments.input = arguments.inputs[0]
    check_names(arguments.input, arguments.output)
    if arguments.from_input:
        from . import from_input

        from_input.run(arguments)
    elif arguments.candidates:
        from . import candidates

        candidates.run(arguments)
    else:
        _one(arguments)


def _one(arguments: argparse.Namespace) -> None:
    """Check everything that can be checked, load, edit, write, report."""
    from .. import audio
    from ..results import made

    tell = told(arguments)
    source, target = arguments.input, arguments.output
    report = sys.stderr if target == STREAM else sys.stdout
    clip = audio.load(standard_input() if source == STREAM else source)
    rate = clip.source_rate if arguments.keep_rate else clip.rate
    if target != STREAM:
        audio.check_destination(target, rate)
    tell_of_clip(clip, source, tell)
    model, window, loaded = opened(arguments, tell)
    text = told_sentence(model, arguments)
    seed = drawn(arguments.seed, arguments.quiet)
    start = time.perf_counter()
    edited = _edit(model, clip, text, seed, arguments, window)
    wall = time.perf_counter() - start
    seconds = len(edited) / clip.rate
    edited = at_rate(edited, clip, rate)
    origin = None if source == STREAM else source
    record = made.of(model, text, seed, source=origin, options=recorded(arguments))
    place = sys.stdout.buffer if target == STREAM else target
    saved = audio.save(place, edited, rate, normalize=arguments.normalize, tags=record.sized(len(edited)).tags())
    if not arguments.normalize:
        tell_of_level(saved, target, tell)
    if not arguments.quiet:
        peak = audio.decibels(saved.peak * saved.gain)
        name = "standard output" if target == STREAM else target
        print(f"{name}: {seconds:.2f} s at {rate} Hz, peak {peak}", file=report)
        rtf = f"RTF {wall / seconds:.2f}"
        took = f"edited in {wall:.2f} s, {rtf}; model loaded in {loaded:.2f} s"
        print(f"backend {backend_of(model)}: {took}", file=report)


def _edit(
    model: InstructMusicGen, clip: Clip, text: str, seed: int, arguments: argparse.Namespace, window: int | None
) -> Samples:
    import mlx.core as mx
    import numpy as np

    with progress_bar(arguments.quiet) as progress:
        edited = model.generate(
            text, mx.array(clip.samples), arguments.max_steps, seed=seed, window_frames=window, progress=progress,
            **sampling(arguments),
        )  # fmt: skip
        return np.array(edited, dtype=np.float32)
