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
from ..output import pages
from ..variants import CLIP, TEXTS, add_variant_arguments, chosen


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's arguments."""
    what = "score edited audio: CLAP, SI-SDR, log-mel distance, for each variant"
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser("quality", help=what, description=__doc__, formatter_class=raw)
    add_variant_arguments(parser)
    add = parser.add_argument
    add("--clips", nargs="+", type=Path, help="audio files or folders (default: the shipped clip)")
    add("--instructions", type=Path, help="text (`sentence | what remains` a line) or YAML; default: four")
    add("--stems", type=Path, help="true stems: STEMS/<clip's name>/<instrument>.wav, for SI-SDR, notes, onsets")
    add("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N-1 (default 3)")
    add("--clap", default=None, help="CLAP checkpoint, repo or folder (default laion/clap-htsat-unfused)")
    add("--no-clap", action="store_true", help="leave out CLAP scores")
    add("--seconds", type=float, help="use only the beginning of each clip")
    add("--temperature", type=float, default=1.0, help="sampling temperature (default 1.0)")
    add("--top-k", type=int, default=250, help="sample from so many tokens; 0: from all (default 250)")
    add("--greedy", action="store_true", help="always choose the most probable token")
    add("--keep-audio", action="store_true", help="write every result to OUT/audio")


def run(args: argparse.Namespace) -> int:
    """Edit, score, print the page, and write it with --out."""
    from model.candidates.clap import CHECKPOINT, Clap
    from model.evaluation.quality import instructions
    from model.evaluation.quality.measure import QualitySettings, load_clips, measure

    from .page import page

    options.positive("--seeds", args.seeds)
    options.within("--guidance", args.guidance, -1e5, 1e5)
    options.within("--temperature", args.temperature, 0)
    options.within("--top-k", args.top_k, 0)
    if args.seconds is not None and not args.seconds > 0:
        raise UsageError(f"--seconds {args.seconds} must be above 0")
    if args.keep_audio and not args.out:
        raise UsageError("--keep-audio needs --out, the folder to write to")
    pages.check_out(args.out)
    asked = instructions.read(args.instructions) if args.instructions else instructions.of(TEXTS)
    if not args.instructions and not args.clips:  # the shipped clip: drums, bass and piano
        remains = "bass and piano"
        asked = [dataclasses.replace(each, remains=remains) if each.verb == "remove" else each for each in asked]
    files = clip_files(args.clips or [CLIP])
    if doubles := {f.stem for f in files if [g.stem for g in files].count(f.stem) > 1}:
        raise UsageError(f"two clips are named {sorted(doubles)[0]}; give them different names")
    clips = load_clips(files, args.stems, args.seconds)
    variants = chosen(args)
    scorer = None if args.no_clap else Clap(args.clap or CHECKPOINT)
    checkpoint = scorer.checkpoint if scorer else None
    seeds = tuple(range(args.seeds))
    settings = QualitySettings(seeds, args.guidance, args.temperature, args.top_k, args.greedy, args.seconds)
    rows = measure(variants, clips, asked, settings, scorer, args.out / "audio" if args.keep_audio else None)
    cells = [
        {"row": row.label, "measure": measure, "clip": clip, "instruction": text, "seed": seed, "value": value}
        for row in rows
        for measure, values in row.values.items()
        for (clip, text, seed), value in values.items()
    ]
    made = page(variants, rows, clips, asked, settings, checkpoint, "--no-clap was given")
    pages.finish(args, made, {"settings": dataclasses.asdict(settings), "clap": checkpoint, "cells": cells})
    return 0
