"""`bench quality`: edit clips with each variant and score the audio: CLAP, SI-SDR, log-mel distance, notes, onsets.

The first variant is the reference of the paired differences. The CLAP score needs the extra `eval` (torch) and the
checkpoint, from the Hub unless --clap names a folder; the rest needs neither.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from model.audio import clip_files
from model.errors import UsageError

from .. import options
from ..fidelity.command import CLIP, TEXTS, add_variant_arguments, check_out, chosen, finish


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = subparsers.add_parser(
        "quality",
        help="score edited audio: CLAP, SI-SDR, log-mel distance, for each variant",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_variant_arguments(parser)
    parser.add_argument("--clips", nargs="+", type=Path, help="audio files or folders (default: the shipped clip)")
    parser.add_argument(
        "--instructions", type=Path, help="text (`sentence | what remains` a line) or YAML; default: four"
    )
    parser.add_argument(
        "--stems", type=Path, help="true stems: STEMS/<clip's name>/<instrument>.wav, for SI-SDR, notes, onsets"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N-1 (default 3)")
    parser.add_argument(
        "--clap", default=None, help="CLAP checkpoint, repo or folder (default laion/clap-htsat-unfused)"
    )
    parser.add_argument("--no-clap", action="store_true", help="without CLAP scores")
    parser.add_argument("--seconds", type=float, help="use only the beginning of each clip")
    parser.add_argument("--temperature", type=float, default=1.0, help="of sampling (default 1.0)")
    parser.add_argument("--top-k", type=int, default=250, help="sample from so many tokens; 0: from all (default 250)")
    parser.add_argument("--greedy", action="store_true", help="always the most probable token")
    parser.add_argument("--keep-audio", action="store_true", help="write every result to OUT/audio")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Edit, score, print the page, and write it with --out."""
    from .. import instructions
    from . import measure as quality_measure
    from . import page as quality_page
    from .clap import CHECKPOINT, Clap

    options.positive("--seeds", args.seeds)
    options.within("--guidance", args.guidance, -1e5, 1e5)
    options.within("--temperature", args.temperature, 0)
    options.within("--top-k", args.top_k, 0)
    if args.seconds is not None and not args.seconds > 0:
        raise UsageError(f"--seconds {args.seconds} must be above 0")
    if args.keep_audio and not args.out:
        raise UsageError("--keep-audio needs --out, the folder to write to")
    check_out(args.out)
    asked = instructions.read(args.instructions) if args.instructions else instructions.of(TEXTS)
    if not args.instructions and not args.clips:  # the shipped clip: drums, bass and piano
        asked = [
            dataclasses.replace(each, remains="bass and piano") if each.verb == "remove" else each for each in asked
        ]
    files = clip_files(args.clips or [CLIP])
    if doubles := {f.stem for f in files if [g.stem for g in files].count(f.stem) > 1}:
        raise UsageError(f"two clips are named {sorted(doubles)[0]}; give them different names")
    clips = quality_measure.load_clips(files, args.stems, args.seconds)
    variants = chosen(args)
    scorer = None if args.no_clap else Clap(args.clap or CHECKPOINT)
    settings = quality_measure.Settings(
        tuple(range(args.seeds)), args.guidance, args.temperature, args.top_k, args.greedy, args.seconds
    )
    keep = args.out / "audio" if args.keep_audio else None
    rows = quality_measure.measure(variants, clips, asked, settings, scorer, keep)
    checkpoint = scorer.checkpoint if scorer else None
    page = quality_page.page(variants, rows, clips, asked, settings, checkpoint, "--no-clap was given")
    cells = [
        {"row": row.label, "measure": measure, "clip": clip, "instruction": text, "seed": seed, "value": value}
        for row in rows
        for measure, values in row.values.items()
        for (clip, text, seed), value in values.items()
    ]
    finish(args, page, {"settings": dataclasses.asdict(settings), "clap": checkpoint, "cells": cells})
    return 0
