"""`edit --from-input`: the edit guides a mask over the original, which keeps its rate, channels, phase and treble."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UsageError, UserError
from .clips import STREAM, drawn, progress_bar, standard_input, tell_of_clip, told_sentence
from .opening import backend_of, opened, recorded, sampling, told

if TYPE_CHECKING:
    from ...audio import Clip
    from ...from_input.original import Original
    from ...from_input.split import Split
    from ...pipeline import InstructMusicGen
    from ...progress import Progress
    from ...results.edit_record import EditRecord


def run(arguments: argparse.Namespace) -> None:
    """Check, load, edit, split the original, write both parts or none."""
    from ... import audio
    from ...from_input import original as originals
    from ...results import edit_record as records

    tell = told(arguments)
    source, target = arguments.input, arguments.output
    rest: Path | None = arguments.residual
    if rest is not None:
        _check_rest(rest, source, target)
    clip, original = originals.load(standard_input() if source == STREAM else source)
    original = as_written(original, [p for p in (target, rest) if p is not None], source)
    for path in (target, rest):
        if path is not None and path != STREAM:
            audio.check_destination(path, clip.source_rate)
    tell_of_clip(clip, source, tell, mixed=False)
    model, window, loaded = opened(arguments, tell)
    text = told_sentence(model, arguments)
    seed = drawn(arguments.seed, arguments.quiet)
    start = time.perf_counter()
    with progress_bar(model, arguments.quiet) as progress:
        split = split_of(model, clip, original, text, seed, arguments, window, progress)
    wall = time.perf_counter() - start
    made = records.of(model, text, seed, source=None if source == STREAM else source, options=recorded(arguments))
    contents = files(split, made, target, rest)
    if target == STREAM:
        sys.stdout.buffer.write(contents.pop(target))
        sys.stdout.buffer.flush()
    audio.write(contents)
    if not arguments.quiet:
        report = sys.stderr if target == STREAM else sys.stdout
        out = split.output
        kind = f"{out.bits} bits" if out.bits else "32-bit float"
        name = "standard output" if target == STREAM else target
        seconds = len(out.samples) / out.rate
        print(f"{name}: {seconds:.2f} s at {out.rate} Hz, {out.samples.shape[1]} channel(s), {kind}", file=report)
        if rest is not None:
            print(f"{rest}: what is left of the input; both add up to it", file=report)
        took = f"edited in {wall:.2f} s, RTF {wall / seconds:.2f}; model loaded in {loaded:.2f} s"
        print(f"backend {backend_of(model)}: {took}", file=report)


def _check_rest(rest: Path, source: Path, target: Path) -> None:
    if rest == STREAM:
        raise UsageError("--residual: needs a file name, not -")
    if rest.absolute() == target.absolute() or (rest.exists() and target.exists() and rest.samefile(target)):
        raise UsageError(f"--residual {rest}: is what -o writes; choose another name")
    if rest.exists() and source.exists() and rest.samefile(source):
        raise UsageError(f"--residual {rest}: is the input; choose another name")


def as_written(original: Original, paths: list[Path], source: Path) -> Original:
    """Return the original in numbers that every file of these names holds exactly."""
    from ...from_input.split import suffix_bits

    wanted = [suffix_bits(Path("out.wav") if path == STREAM else path, original) for path in paths]
    bits = None if wanted == [None] * len(wanted) else min(each for each in wanted if each is not None)
    try:
        return original.as_bits(bits)
    except UserError as e:
        raise UserError(f"{source}: {e}") from e


def split_of(
    model: InstructMusicGen, clip: Clip, original: Original, text: str, seed: int, arguments: argparse.Namespace,
    window: int | None, progress: Progress,
) -> Split:  # fmt: skip
    """Make the guides' edits, and split the original by them."""
    from ...from_input.guides import guided
    from ...from_input.split import split

    found = guided(
        model, clip.samples, text, seed=seed, seeds=arguments.guides or 1, max_steps=arguments.max_steps,
        window_frames=window, progress=progress, **sampling(arguments),
    )  # fmt: skip
    if len(found.edit) < len(clip.samples):
        original = original.cut(round(len(found.edit) / clip.rate * original.rate))
    return split(original, found.mask)


def files(split: Split, made: EditRecord, target: Path, rest: Path | None) -> dict[Path, bytes]:
    """Return the content of every file that is written."""
    from ...from_input.split import encoded
    from ...results.edit_record import residual

    made = made.sized(len(split.output.samples))
    contents = {target: encoded(target if target != STREAM else Path("out.wav"), split.output, made.tags())}
    if rest is not None:
        contents[rest] = encoded(rest, split.rest, residual(made).tags())
    return contents
