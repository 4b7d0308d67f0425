"""`bench seams`: does the sound jump more where one window ends and the next begins than elsewhere?"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from model import audio
from model.bundle.bundle import demo_path
from model.cli.shared_options import BACKENDS
from model.config import FRAME_RATE, SAMPLE_RATE
from model.errors import UsageError
from model.evaluation.seams import MEASURES, Seams, WindowLayout, measure
from model.instructions import trained

from .. import options, stats
from ..output import console
from ..output.tables import Table
from ..variants import CLIP, parse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the options of `bench seams`."""
    p = subparsers.add_parser("seams", help="jumps where windows meet, for several strides and look-aheads")
    p.add_argument(
        "--model",
        default=str(demo_path()),
        metavar="PATH_OR_REPO",
        help="a bundle (default: the small demo that ships with this program)",
    )
    p.add_argument("--backend", choices=BACKENDS, default="auto", help="backend (default auto)")
    p.add_argument("--clips", nargs="+", type=Path, help="audio files or folders (default: the shipped clip)")
    p.add_argument(
        "--seconds", type=float, default=30.0, help="seconds of each clip; shorter ones are repeated (default 30)"
    )
    p.add_argument("--instruction", default="only the drums", help='sentence (default "only the drums")')
    p.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N-1 (default 3)")
    p.add_argument(
        "--layouts",
        nargs="+",
        metavar="WINDOW/STRIDE/AHEAD",
        help="in frames, 50 a second (default: the bundle's window with look-aheads of 0, 0.5 and 1 s, and prompts of "
        "0.5 s, 1 s and half of what is edited)",
    )
    p.add_argument("--json", action="store_true", help="print every clip's figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Edit the clips in each layout and print the jumps at their seams."""
    options.positive("--seeds", args.seeds)
    options.within("--seconds", args.seconds, 1, 3600)
    (variant,) = parse(args.model, backend=args.backend)
    model = variant.load()
    longest = model.bundle.config.adapter
    layouts = [_parsed(text, longest.max_n_frames) for text in args.layouts or _default(longest.window_frames)]
    files, count = audio.clip_files(args.clips or [CLIP]), round(args.seconds * SAMPLE_RATE)
    clips = [mx.array(np.resize(audio.load(path).samples, count)) for path in files]
    sentence = trained(args.instruction, model.bundle.config.instructions)
    with console.progress() as bar:
        task = bar.add_task("editing", total=len(layouts) * len(clips))
        found = measure(model, clips, sentence, layouts, args.seeds, lambda done, _: bar.update(task, completed=done))
    notes = [f"{len(clips)} clips of {args.seconds:g} s, {args.seeds} seeds, {sentence!r}, backend {model.backend}"]
    if model.bundle.random_weights:
        notes.append("this bundle's weights are random: what it makes is not music")
    headers = ["window / stride / look-ahead (s)", "seams", "steps", *(f"{m} at seams" for m in MEASURES),
               *(f"{m} inside" for m in MEASURES), *(f"{m} ratio" for m in MEASURES)]  # fmt: skip
    table = Table("Jumps in dB where windows meet", headers, [_row(each) for each in found], notes)
    options.show(args, {"sentence": sentence, "layouts": found}, [table])
    return 0


def _row(seams: Seams) -> list[str]:
    layout = seams.layout
    name = " / ".join(f"{frames / FRAME_RATE:g}" for frames in dataclasses.astuple(layout))
    means = [f"{np.mean(sides[m]):.2f}" if sides[m] else "-" for sides in (seams.at, seams.inside) for m in MEASURES]
    return [name, str(seams.seams), str(seams.steps), *means, *(_ratio(seams, m) for m in MEASURES)]


def _ratio(seams: Seams, measured: str) -> str:
    """Return the mean jump at seams over the mean inside, with an interval over clips where there are enough."""
    if not seams.inside[measured]:
        return "-"
    ratio = float(np.sum(seams.at[measured]) / np.sum(seams.inside[measured]))
    interval = stats.mean_interval(seams.ratios(measured))
    return f"{ratio:.2f}" if interval is None else f"{ratio:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _default(window: int) -> list[str]:
    found = []
    for ahead in (0, FRAME_RATE // 2, FRAME_RATE):
        edited = window - ahead
        strides = dict.fromkeys((edited // 2, edited - FRAME_RATE, edited - FRAME_RATE // 2))
        found += [f"{window}/{stride}/{ahead}" for stride in strides if stride > 0]
    return found


def _parsed(text: str, longest: int) -> WindowLayout:
    try:
        window, stride, ahead = (int(part) for part in text.split("/"))
    except ValueError:
        raise UsageError(
            f"--layouts {text}: must be three whole numbers of frames; write them as in 250/100/50"
        ) from None
    if not (1 <= window <= longest and 0 <= ahead < window and 1 <= stride <= window - ahead):
        raise UsageError(f"--layouts {text}: needs window <= {longest}, and stride <= window - look-ahead")
    return WindowLayout(window, stride, ahead)
