"""`bench fidelity`: how far quantization or a backend takes a model's predictions, without any download.

The first variant is the reference. Every other one is made to say the same tokens (what the reference generates, or
given codes), exactly as in generation, and its predictions are compared with the reference's.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model import files
from model.audio import clip_files
from model.bundle.bundle import demo_path
from model.cli.names import BACKENDS
from model.cli.values import instruction
from model.config import GROUP_SIZES

from .. import options, results

if TYPE_CHECKING:
    from ..pages import Page
    from ..variants import Variant

TEXTS = (
    "Music piece. Instruct: Only Drums.",
    "Music piece. Instruct: No Drums.",
    "Music piece. Instruct: Only Bass.",
    "Music piece. Instruct: Add Piano.",
)
CLIP = Path(demo_path()).parent / "clip.flac"


def add_variant_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which variants to compare; shared with `bench quality`."""
    add = parser.add_argument
    add("--model", default=str(demo_path()), help="bundle folder or repo, the reference (default: the demo)")
    add("--against", nargs="+", default=[], metavar="BUNDLE", help="other bundles; BUNDLE@BACKEND picks one")
    add("--bits", nargs="+", type=int, default=[], help="the model quantized in memory to 8 and/or 4 bits")
    add("--recipes", nargs="+", default=[], help="the model quantized in memory by these recipes")
    add("--backends", nargs="+", choices=BACKENDS, default=[], help="the model on these backends as well")
    add("--backend", choices=BACKENDS, default="auto", help="backend of every variant that doesn't name one")
    groups = "for --bits and --recipes (default 64, or 32 where 64 does not divide)"
    add("--group-size", type=int, choices=GROUP_SIZES, help=groups)
    add("--guidance", type=float, default=3.0, help="as in generation (default 3.0)")
    add("--out", type=Path, help="write the page here (Markdown, HTML, JSON, PNG)")
    add("--json", action="store_true", help="print the page's numbers as JSON instead")


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
    add("--frames", type=int, default=500, help="steps to run, 50 a second (default 500, the window)")
    add("--seed", type=int, default=0, help="of what is generated (default 0)")
    add("--agreement", type=int, default=10, metavar="K", help="K of the top-K agreement")
    add("--probes", type=int, default=1, help="clips x texts used for layers and costs")
    add("--by", nargs="+", default=["kind", "layer"], choices=("kind", "layer", "matrix"), help="costs by")


def run(args: argparse.Namespace) -> int:
    """Measure, print the page, and write it with --out."""
    from . import inputs
    from .measure import Settings, measure
    from .page import page

    for name in ("frames", "probes", "agreement"):
        options.positive(f"--{name}", getattr(args, name))
    options.within("--seed", args.seed, 0, 2**64 - 1)
    options.within("--guidance", args.guidance, -1e5, 1e5)
    check_out(args.out)
    variants = chosen(args)
    lm, window = variants[0].bundle.config.lm, variants[0].bundle.config.adapter.max_n_frames
    frames = min(args.frames, window)
    cut = f"This bundle's window is {window} frames: not {args.frames} steps, but {frames}."
    notes = [] if frames == args.frames else [cut]
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
    settings = Settings(args.seed, args.guidance, args.agreement, args.probes, tuple(args.by))
    found = measure(variants, materials, settings)
    every = [dataclasses.asdict(f) for f in found]
    data = {"settings": dataclasses.asdict(settings), "materials": source, "variants": every}
    finish(args, page(variants, found, materials, settings, source, notes), data)
    return 0


def check_out(folder: Path | None) -> None:
    """Raise UserError if `--out` cannot be written: now, not after minutes of work."""
    if folder is not None:
        files.check_writable(folder / "page.md")


def finish(args: argparse.Namespace, page: Page, data: dict[str, Any]) -> None:
    """Print the page, or its numbers, and write it with `--out` even if printing fails."""
    text = results.dumps(data, indent=1)
    try:
        print(text if args.json else page.without_pictures())
    finally:
        if args.out:
            for path in page.save(args.out, text):
                print(f"wrote {path}", file=sys.stderr)


def chosen(args: argparse.Namespace) -> list[Variant]:
    """Return the variants of the command line; if it names one model: 8 and 4 bits of it, or the reference backend."""
    from ..variants import parse

    model, bits, backends, backend = args.model, list(args.bits), list(args.backends), args.backend
    if not (args.against or bits or args.recipes or backends):
        (only,) = parse(model, backend=backend)
        if only.bundle.config.quantization is None:
            bits = [8, 4]
        else:
            backends, backend = [backend], "reference"
    return parse(
        model, args.against, bits=bits, recipes=args.recipes, backends=backends, backend=backend,
        group_size=args.group_size,
    )  # fmt: skip
