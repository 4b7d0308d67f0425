"""`bench fidelity`: how far quantization or a backend takes a model's predictions, without any download.

The first variant is the reference. Every other one is made to say the same tokens (what the reference generates, or
given codes), exactly as in generation, and its predictions are compared with the reference's.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from model.audio import clip_files
from model.parse_values import instruction

from .. import options
from ..output import pages
from ..variants import CLIP, TEXTS, add_variant_arguments, chosen


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's arguments."""
    what = "what quantization and the kernels cost in the model's predictions; no download"
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser("fidelity", help=what, description=__doc__, formatter_class=raw)
    add_variant_arguments(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--clips", nargs="+", type=Path, help="audio files or folders (default: the shipped clip)")
    source.add_argument("--codes", type=Path, help=".npz or .safetensors with condition (and target) [B,4,T]")
    source.add_argument("--random-codes", action="store_true", help="seeded random codes instead of audio")
    add = parser.add_argument
    add("--texts", nargs="+", type=instruction, default=list(TEXTS), help="instructions")
    add("--frames", type=int, help="steps to run, 50 a second (default: the window that edits take)")
    add("--seed", type=int, default=0, help="seed of the generated tokens (default 0)")
    add("--agreement", type=int, default=10, metavar="K", help="K of the top-K agreement")
    add("--probes", type=int, default=1, help="clips x texts used for layers and costs")
    add(
        "--by",
        nargs="+",
        default=["kind", "layer"],
        choices=("kind", "layer", "matrix"),
        help="parts whose cost is measured",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the page, and write it with --out."""
    from model.evaluation.fidelity import inputs
    from model.evaluation.fidelity.measure import FidelitySettings, measure

    from .page import page

    for name in ("frames", "probes", "agreement"):
        if (value := getattr(args, name)) is not None:
            options.positive(f"--{name}", value)
    options.within("--seed", args.seed, 0, 2**64 - 1)
    options.within("--guidance", args.guidance, -1e5, 1e5)
    pages.check_out(args.out)
    variants = chosen(args)
    lm, window = variants[0].bundle.config.lm, variants[0].bundle.config.adapter.window_frames
    frames = min(args.frames or window, window)
    cut = f"This bundle's window is {window} frames: not {args.frames} steps, but {frames}."
    notes = [cut] if frames < (args.frames or 0) else []
    if args.codes:
        materials = inputs.from_file(args.codes, lm, args.texts, frames)
        source = f"codes of {args.codes.name}"
    elif args.random_codes:
        materials = inputs.seeded(lm, args.texts, frames, args.seed)
        source = f"random codes (seed {args.seed}), which are not music"
    else:
        clips = clip_files(args.clips or [CLIP])
        materials = inputs.from_clips(variants[0].load(), clips, args.texts, frames)
        source = f"{len(clips)} clip(s) through the codec, cut or repeated to {frames} frames"
    settings = FidelitySettings(args.seed, args.guidance, args.agreement, args.probes, tuple(args.by))
    found = measure(variants, materials, settings)
    every = [dataclasses.asdict(f) for f in found]
    data = {"settings": dataclasses.asdict(settings), "materials": source, "variants": every}
    pages.finish(args, page(variants, found, materials, settings, source, notes), data)
    return 0
