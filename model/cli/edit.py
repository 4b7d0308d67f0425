"""`instruct-musicgen edit`: a clip and an instruction in, the edited file out."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .. import instructions
from ..bundle import hub
from ..config import FRAME_RATE
from ..errors import UsageError, UserError
from ..instructions import VERBS, Asked
from ..progress import new_bar
from .convert import pasted
from .names import DEFAULT_REPO
from .process import say

if TYPE_CHECKING:
    from ..audio import Clip, Samples, Saved
    from ..pipeline import InstructMusicGen


STREAM = Path("-")
"""Standard input, or output."""


def run(arguments: argparse.Namespace) -> None:
    """Check everything that can be checked, load, edit, write, report."""
    from .. import audio

    tell = _silent if arguments.quiet else _note
    source, target = arguments.input, arguments.output
    if source.exists() and target.exists() and target.samefile(source) and target != STREAM:
        raise UsageError(f"{target}: OUT is IN; choose another name with -o")
    if target == STREAM and (sys.stdout is None or sys.stdout.isatty()):
        raise UsageError("-o -: writes WAV to standard output, which is a terminal or closed; redirect it")
    named = "standard input" if source == STREAM else source
    report = sys.stderr if target == STREAM else sys.stdout
    clip = audio.load(_standard_input() if source == STREAM else source)
    rate = clip.source_rate if arguments.keep_rate else clip.rate
    if target != STREAM:
        audio.check_destination(target, rate)
    for note in clip.notes:
        tell(f"{named}: {note}")
    if clip.channels > 1:
        tell(f"{named}: its {clip.channels} channels are mixed to mono")
    if clip.peak > 1:
        tell(f"{named}: its peak is above full scale ({audio.decibels(clip.peak)}); taken as it is")

    name = _model(arguments.model, tell)
    if arguments.revision and Path(name).exists():
        raise UsageError(f"--revision {arguments.revision}: picks a version of a Hugging Face repo; {name} is a folder")
    if arguments.quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    start = time.perf_counter()
    model = _load(name, arguments)
    loaded = time.perf_counter() - start
    if arguments.caches == "float16":
        _use_half_caches(model)
    if arguments.activations == "int8":
        _use_int8(model)
    window = _window(model, arguments.window, tell)
    if model.bundle.random_weights:
        tell("this bundle's weights are random: the output is a smoke test, not music")
    asked = _asked(model, arguments)
    if asked.note:
        tell(asked.note)
    if not arguments.quiet:
        print(f"instruction: {asked.text}", file=sys.stderr)
    start = time.perf_counter()
    edited = _edit(model, clip, asked.text, arguments, window)
    wall = time.perf_counter() - start
    seconds = len(edited) / clip.rate
    if arguments.keep_rate:
        whole = len(edited) == len(clip.samples)
        frames = clip.source_frames if whole else round(seconds * rate)
        edited = audio.resample(edited, clip.rate, rate, frames)
    saved = audio.save(sys.stdout.buffer if target == STREAM else target, edited, rate, normalize=arguments.normalize)
    if not arguments.normalize:
        _tell_of_level(saved, target, tell)
    if not arguments.quiet:
        peak = audio.decibels(saved.peak * saved.gain)
        name = "standard output" if target == STREAM else target
        print(f"{name}: {seconds:.2f} s at {rate} Hz, peak {peak}", file=report)
        rtf = f"RTF {wall / seconds:.2f}"
        print(f"backend {_backend(model)}: edited in {wall:.2f} s, {rtf}; model loaded in {loaded:.2f} s", file=report)


def _standard_input() -> BinaryIO:
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise UsageError("-: reads a clip from standard input, which is a terminal or closed; redirect it")
    return sys.stdin.buffer


def _drawn(seed: int | None, quiet: bool) -> int:
    """Return the seed; one that is drawn here is told."""
    if seed is None:
        seed = secrets.randbelow(2**64)
        if not quiet:
            _note(f"seed {seed} was drawn; --seed {seed} gives this result again")
    return seed


def _window(model: InstructMusicGen, seconds: float | None, tell: Callable[[str], None]) -> int | None:
    """Frames of the window that was asked for."""
    if seconds is None:
        return None
    adapter, frames = model.bundle.config.adapter, round(seconds * FRAME_RATE)
    if frames > adapter.max_n_frames:
        longest = adapter.max_n_frames / FRAME_RATE
        raise UsageError(f"--window {seconds:g}: this model's longest window is {longest:g} s")
    if frames > adapter.window_frames:
        trained = adapter.window_frames / FRAME_RATE
        said = "was trained on" if adapter.trained_frames else "was most likely trained on"
        tell(f"--window {seconds:g} is longer than the {trained:g} s that this model {said}; expect worse past them")
    return frames


def _asked(model: InstructMusicGen, arguments: argparse.Namespace) -> Asked:
    """Return the sentence that goes in, and one line if the model was not trained on it."""
    vocabulary = model.bundle.config.instructions
    if arguments.instruction is not None:
        return instructions.asked(arguments.instruction, vocabulary)
    verb, name = next((v, getattr(arguments, v.lower())) for v in VERBS if getattr(arguments, v.lower()) is not None)
    return instructions.chosen(verb, name, vocabulary)


def _edit(model: InstructMusicGen, clip: Clip, text: str, arguments: argparse.Namespace, window: int | None) -> Samples:
    import mlx.core as mx
    import numpy as np

    with _progress(arguments.quiet) as progress:
        edited = model.generate(
            text, mx.array(clip.samples), arguments.max_steps,
            seed=_drawn(arguments.seed, arguments.quiet), temperature=arguments.temperature,
            top_k=arguments.top_k, top_p=arguments.top_p,
            guidance=arguments.guidance, greedy=arguments.greedy, window_frames=window, progress=progress,
        )  # fmt: skip
        return np.array(edited, dtype=np.float32)


def _model(name: str | None, tell: Callable[[str], None]) -> str | Path:
    """Return the bundle to use, and what the user must know of the choice."""
    from ..bundle.bundle import demo_path

    if name is not None:
        return name
    if hub.cached(DEFAULT_REPO):
        tell(f"model {DEFAULT_REPO}, from the cache")
        return DEFAULT_REPO
    if lacking := hub.partly_cached(DEFAULT_REPO):
        raise UserError(
            f"no --model given, and {DEFAULT_REPO} is only partly in the cache (without {lacking}); --model "
            f"{DEFAULT_REPO} fetches the rest, --model {pasted(demo_path())} is the demo"
        )
    # Also with --quiet: nobody shall take its output for an edit.
    _note(f"no --model given and {DEFAULT_REPO} is not in the cache: using the embedded demo bundle")
    return demo_path()


def _load(name: str | Path, arguments: argparse.Namespace) -> InstructMusicGen:
    from .. import InstructMusicGen  # checks that `kernels` is ours

    import kernels  # isort: skip

    try:
        model = InstructMusicGen.from_pretrained(
            name, backend=arguments.backend, revision=arguments.revision, keys=arguments.keys
        )
    except kernels.BackendUnavailable as e:
        raise UserError(str(e)) from e
    _ = model.bundle.t5_path  # fetched now if it must be: not in the middle of the work
    return model


def _use_int8(model: InstructMusicGen) -> None:
    quantization = model.bundle.config.quantization
    if model.backend != "native" or quantization is None or quantization.bits != 4:
        bits = f"{quantization.bits}-bit" if quantization else "unquantized"
        raise UsageError(
            f"--activations int8: is for 4-bit bundles on the native backend, not for {bits} ones on {model.backend}"
        )
    from kernels import native

    native.set_activations("int8")


def _use_half_caches(model: InstructMusicGen) -> None:
    if model.backend != "native":
        raise UsageError(f"--caches float16: is for the native backend, not for {model.backend}")
    from kernels import native

    native.set_caches("float16")


def _backend(model: InstructMusicGen) -> str:
    """Return the backend that ran, and for native how."""
    if model.backend != "native":
        return model.backend
    from kernels import native

    info = native.info()
    return f"native ({info['isa']}, {info['threads']} threads, {info['activations']} activations)"


def _tell_of_level(saved: Saved, path: Path, tell: Callable[[str], None]) -> None:
    from ..audio import decibels

    if saved.gain != 1:
        tell(f"{path}: the peak was above full scale ({decibels(saved.peak)}), more than the format holds; scaled by "
             f"{decibels(saved.gain).removesuffix('FS')}")  # fmt: skip
    elif saved.peak > 1:
        tell(f"{path}: the peak is above full scale ({decibels(saved.peak)}), kept in 32-bit float; players may clip "
             "it, --normalize scales it")  # fmt: skip


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr if that is a terminal; what this yields takes the steps done and the steps in all."""
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
            rtf = f"RTF {(now - begun) / (done - first) * FRAME_RATE:.2f}" if done > first else ""
            doing = "editing" if done < total else "decoding"
            bar.update(task, description=doing, completed=done, total=total, rtf=rtf)

        yield advance


def _note(message: str) -> None:
    say("note", f"{message}.")


def _silent(message: str) -> None:
    pass
