"""`edit` of one file into another, or down a pipe while it is made."""

from __future__ import annotations

import argparse
import sys

from .clips import STREAM, drawn, progress_bar, standard_input, tell_of_clip, tell_of_level, told_sentence
from .opening import backend_of, opened, recorded, sampling, told


def run(arguments: argparse.Namespace) -> None:
    """Check everything that can be checked, load, edit, write, report."""
    from ... import audio, instructions
    from ...decoding.sampling import Sampling
    from ...long_files import clip as clips
    from ...long_files import unfinished
    from ...long_files.edit import EditOptions, edit
    from ...results import edit_record as records

    tell = told(arguments)
    source, target = arguments.input, arguments.output
    clip = clips.load(standard_input() if source == STREAM else source)
    rate = clip.source_rate if arguments.keep_rate else clip.rate
    if target != STREAM:
        audio.check_destination(target, rate)
    tell_of_clip(clip, source, tell)
    model, window, loaded = opened(arguments, tell)
    text = told_sentence(model, arguments)
    if arguments.seed is None and arguments.resume:
        arguments.seed = unfinished.seed_of(target)
    seed = drawn(arguments.seed, arguments.quiet)
    how = sampling(arguments)
    guidance = how.pop("guidance")
    order = EditOptions(
        text, seed, arguments.max_steps, Sampling(**how), guidance, window, keep_rate=arguments.keep_rate,
        normalize=arguments.normalize, resume=arguments.resume,
    )  # fmt: skip
    record = records.of(model, text, seed, source=None if source == STREAM else source, options=recorded(arguments))
    place = sys.stdout.buffer if target == STREAM else target
    with progress_bar(model, arguments.quiet) as progress:
        done = edit(
            model, clip, order, place, kind=arguments.format or "wav", tags=lambda frames: record.sized(frames).tags(),
            progress=progress, tell=tell,
        )  # fmt: skip
    if not arguments.normalize:
        tell_of_level(done.saved, target, tell)
    if arguments.quiet:
        return
    seconds, peak = done.samples / clip.rate, audio.decibels(done.saved.peak * done.saved.gain)
    report = sys.stderr if target == STREAM else sys.stdout
    name = "standard output" if target == STREAM else target
    print(f"{name}: {seconds:.2f} s at {done.rate} Hz, peak {peak}", file=report)
    if expected := instructions.outcome(text, model.bundle.config.instructions):
        compared = "the input" if arguments.input == STREAM else arguments.input
        print(f"listen: {name} should be {expected}; compare it with {compared}", file=report)
    took = f"edited in {done.wall:.2f} s, RTF {done.wall / seconds:.2f}; model loaded in {loaded:.2f} s"
    print(f"backend {backend_of(model)}: {took}", file=report)
