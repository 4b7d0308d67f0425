"""What every way of editing one clip needs: streams, notes, the sentence and the seed, the bar."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ...config import FRAME_RATE
from ...errors import UsageError
from ...progress import Progress, Tell, new_bar
from ...stages import COMPILE
from .opening import asked_of, note, told

if TYPE_CHECKING:
    from ...audio import Clip, Samples, Saved
    from ...long_files.clip import LongClip
    from ...pipeline import InstructMusicGen


STREAM = Path("-")
"""Standard input, or output."""


def check_names(source: Path, target: Path) -> None:
    """Raise UsageError where a file would be written over what it is made of, or sound to a terminal."""
    if source.exists() and target.exists() and target.samefile(source) and target != STREAM:
        raise UsageError(f"{target}: is the input itself; choose another name with -o")
    if target == STREAM and (sys.stdout is None or sys.stdout.isatty()):
        raise UsageError("-o -: writes WAV to standard output, which is a terminal or closed; redirect it")


def standard_input() -> BinaryIO:
    """Return standard input. Raises UsageError where that is a terminal or closed."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise UsageError("-: reads a clip from standard input, which is a terminal or closed; redirect it")
    return sys.stdin.buffer


def tell_of_clip(clip: Clip | LongClip, source: Path, tell: Tell, *, mixed: bool = True) -> None:
    """Print what there is to know of an input; `mixed`: the output is mono."""
    from ... import audio

    named = "standard input" if source == STREAM else source
    for each in clip.notes:
        tell(f"{named}: {each}")
    if clip.channels > 1 and mixed:
        tell(f"{named}: its {clip.channels} channels are mixed to mono")
    if clip.peak > 1:
        tell(f"{named}: its peak is above full scale ({audio.decibels(clip.peak)}); taken as it is")


def told_sentence(model: InstructMusicGen, arguments: argparse.Namespace) -> str:
    """Return the sentence that goes in, and print it with its note, if it has one."""
    asked = asked_of(model, arguments)
    if asked.note:
        told(arguments)(asked.note)
    if not arguments.quiet:
        print(f"instruction: {asked.text}", file=sys.stderr)
    return asked.text


def drawn(seed: int | None, quiet: bool) -> int:
    """Return the seed; one that is drawn here is told."""
    if seed is None:
        seed = secrets.randbelow(2**64)
        if not quiet:
            note(f"seed {seed} was drawn; --seed {seed} gives this result again")
    return seed


def at_rate(edited: Samples, clip: Clip, rate: int) -> Samples:
    """Resample an edit of a clip, or of its beginning, to `rate`, at which it is as long as its input."""
    from ... import audio

    if rate == clip.rate:
        return edited
    whole = len(edited) == len(clip.samples)
    frames = clip.source_frames if whole else round(len(edited) / clip.rate * rate)
    return audio.resample(edited, clip.rate, rate, frames)


def tell_of_level(saved: Saved, path: Path, tell: Tell) -> None:
    """Print what became of a peak above full scale."""
    from ...audio import decibels

    if saved.gain != 1:
        tell(f"{path}: the peak was above full scale ({decibels(saved.peak)}), more than the format holds; scaled by "
             f"{decibels(saved.gain).removesuffix('FS')}")  # fmt: skip
    elif saved.peak > 1:
        tell(f"{path}: the peak is above full scale ({decibels(saved.peak)}), kept in 32-bit float; players may clip "
             "it, --normalize scales it")  # fmt: skip


@contextmanager
def progress_bar(model: InstructMusicGen, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr if that is a terminal; what this yields takes the steps done and the steps in all.

    Kernels that are compiled before the first step move it as well.
    """
    from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = MofNCompleteColumn(), TextColumn("{task.fields[rtf]}"), TimeElapsedColumn(), TimeRemainingColumn()
    with new_bar(*columns, quiet=quiet) as bar:
        task = bar.add_task("reading clip and text", total=None, rtf="")
        begun: float | None = None
        first = 0

        def advance(done: int, total: int) -> None:
            # The rate counts from the first step, so that compiling and reading the text don't weigh on it.
            nonlocal begun, first
            now = time.perf_counter()
            if begun is None:
                begun, first = now, done
                bar.reset(task, completed=done, total=total)  # what was resumed took no time
            rtf = f"RTF {(now - begun) / (done - first) * FRAME_RATE:.2f}" if done > first else ""
            doing = "editing" if done < total else "decoding"
            bar.update(task, description=doing, completed=done, total=total, rtf=rtf)

        @contextmanager
        def stage(name: str) -> Iterator[Progress | None]:
            compiling = partial(bar.update, task, description="compiling kernels")
            yield (lambda done, total: compiling(completed=done, total=total)) if name == COMPILE else None
            if name == COMPILE:
                bar.update(task, description="reading clip and text", completed=0, total=None)

        model.announce = stage
        yield advance
