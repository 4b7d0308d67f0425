"""What every way of editing needs first: the model, the sentence, the window, and what to tell of them."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ... import instructions
from ...bundle import hub
from ...config import FRAME_RATE
from ...errors import UsageError, UserError
from ...instructions import VERBS, Asked
from ...progress import Tell
from ..process import say
from ..shared_options import DEFAULT_REPO

if TYPE_CHECKING:
    from ...pipeline import InstructMusicGen


class Opened(NamedTuple):
    """A model that is ready, the window in frames that was asked for, and the seconds that loading took."""

    model: InstructMusicGen
    window: int | None
    seconds: float


def opened(arguments: argparse.Namespace, tell: Tell) -> Opened:
    """Load the model that was asked for. Raises UsageError for options that don't fit it."""
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
    return Opened(model, window, loaded)


def told(arguments: argparse.Namespace) -> Tell:
    """Return what prints notes: nothing with --quiet."""
    return silent if arguments.quiet else note


def sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how tokens are chosen, as `generate` takes it."""
    return {name: getattr(arguments, name) for name in ("temperature", "top_k", "top_p", "guidance", "greedy")}


def recorded(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that a file's record names."""
    from ...results.edit_record import OPTIONS

    return {name: getattr(arguments, name) for name in OPTIONS}


def _window(model: InstructMusicGen, seconds: float | None, tell: Tell) -> int | None:
    """Return the frames of the window that was asked for."""
    if seconds is None:
        return None
    adapter, frames = model.bundle.config.adapter, round(seconds * FRAME_RATE)
    if frames > adapter.max_n_frames:
        longest = adapter.max_n_frames / FRAME_RATE
        raise UsageError(
            f"--window {seconds:g}: this model's longest window is {longest:g} s; give at most {longest:g}"
        )
    if frames > adapter.window_frames:
        trained = adapter.window_frames / FRAME_RATE
        said = "was trained on" if adapter.trained_frames else "was most likely trained on"
        tell(f"--window {seconds:g} is longer than the {trained:g} s that this model {said}; expect worse past them")
    return frames


def asked_of(model: InstructMusicGen, arguments: argparse.Namespace) -> Asked:
    """Return the sentence that goes in, and one line if the model was not trained on it."""
    vocabulary = model.bundle.config.instructions
    if arguments.instruction is not None:
        return instructions.asked(arguments.instruction, vocabulary)
    verb, name = next((v, getattr(arguments, v.lower())) for v in VERBS if getattr(arguments, v.lower()) is not None)
    return instructions.chosen(verb, name, vocabulary)


def _model(name: str | None, tell: Tell) -> str | Path:
    """Return the bundle to use, and tell the user of the choice if it was not theirs."""
    from ...bundle.bundle import DEMO

    if name is not None:
        return name
    if hub.cached(DEFAULT_REPO):
        tell(f"model {DEFAULT_REPO}, from the cache")
        return DEFAULT_REPO
    if lacking := hub.partly_cached(DEFAULT_REPO):
        raise UserError(
            f"no --model given, and {DEFAULT_REPO} is only partly in the cache (without {lacking}); --model "
            f"{DEFAULT_REPO} fetches the rest, --model demo is the small one that comes with this program"
        )
    # Also with --quiet: nobody shall take the demo's edits for the published model's.
    note(
        f"no --model given and {DEFAULT_REPO} is not in the cache: using the small demo that ships with this "
        "program, which learned from synthetic songs of a small band; real weights do more: instruct-musicgen download"
    )
    return DEMO


def _load(name: str | Path, arguments: argparse.Namespace) -> InstructMusicGen:
    from ... import InstructMusicGen  # checks that `kernels` is ours

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


def backend_of(model: InstructMusicGen) -> str:
    """Return the backend that ran, and for native how."""
    if model.backend != "native":
        return model.backend
    from kernels import native

    info = native.info()
    caches = ", float16 caches" if info["caches"] == "float16" else ""
    return f"native ({info['isa']}, {info['threads']} threads, {info['activations']} activations{caches})"


def note(message: str) -> None:
    """Print a note on standard error."""
    say("note", f"{message}.")


def silent(message: str) -> None:
    """Print nothing."""
