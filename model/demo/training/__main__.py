"""The recipe's commands, one a stage: `python -m model.demo.training STAGE --work DIR`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...cli import process
from ...errors import UserError
from ...whole_file import write_whole
from .failures import need_torch
from .workspace import Workspace

EVERY = 200.0
"""Seconds of CPU time between checkpoints."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stage and return the exit code: 0 done, 1 failed with a line on stderr, 2 wrong usage, 130 interrupted."""
    arguments = parser().parse_args(argv)

    def stage() -> int:
        arguments.run(arguments, Workspace(arguments.work))
        return 0

    return process.run(
        stage, interrupted="the last checkpoint stays", out_of_memory="take fewer songs or a smaller --batch"
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of all stages."""
    parser = argparse.ArgumentParser(prog="python -m model.demo.training", description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)

    def stage(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made = stages.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        made.add_argument("--work", type=Path, required=True, help="folder of songs, codes, checkpoints and the log")
        return made

    made = stage("compose", _compose, "compose and render songs")
    made.add_argument("--songs", type=_positive, default=2000, help="training songs (default %(default)s)")
    made.add_argument("--first", type=_positive, default=0, help="training song to begin with, a multiple of 200")
    made.add_argument("--validation", type=_positive, default=48, help="songs of each validation set")
    made.add_argument("--jobs", type=_positive, default=1, help="fluidsynths that run at once (default 1)")
    made = stage("codec", _codec, "train the codec; resumes")
    _trained(made)
    made.add_argument("--steps", type=_positive, default=6000, help="steps of everything (default %(default)s)")
    made.add_argument("--decoder-steps", type=_positive, default=8000, help="steps of the decoder on frozen codes")
    made.add_argument("--measured", type=_positive, default=500, help="steps between validations")
    made = stage("encode", _encode, "encode the songs with the frozen codec")
    made.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    made.add_argument("--levels", type=_positive, default=1, help="passes, each at other levels of the stems")
    made.add_argument("--validation", type=_positive, default=16, help="songs of each validation set")
    made = stage("model", _model, "train language model, adapter and text side; resumes, and may be prolonged")
    _trained(made)
    made.add_argument("--steps", type=_positive, default=20_000, help="the trunk's last step (default %(default)s)")
    made.add_argument("--anneal", type=_positive, help="train a branch of this many steps to rate 0 instead")
    made.add_argument("--layers", type=_positive, default=4, help="layers (default %(default)s)")
    made.add_argument("--measured", type=_positive, default=200, help="steps between validations")
    made = stage("judge", _judge, "judge a bundle on validation songs")
    _edited(made, songs=16)
    made.add_argument("--no-notes", action="store_true", help="leave out basic-pitch, the slowest part")
    made.add_argument("--out", type=Path, help="also write all rows, as JSON")
    made = stage("ranks", _ranks, "measure whether candidates' scores pick better ones than chance does")
    _edited(made, songs=16)
    made.add_argument("--candidates", type=_positive, default=8, help="of each edit (default %(default)s)")
    made.add_argument("--clap", nargs="?", const="", help="score by CLAP too: a folder or repo")
    made.add_argument("--out", type=Path, help="also write all rows, as JSON")
    made = stage("splits", _splits, "measure what edits are worth as masks over the original (edit --from-input)")
    _edited(made, songs=16)
    made.add_argument("--seeds", type=_positive, default=1, help="of each edit, averaged (default %(default)s)")
    made.add_argument("--sharpness", type=float, nargs="+", help="of the mask (default: as edit --from-input)")
    made.add_argument("--excess", type=float, nargs="+", help="weight of what goes (default: as edit --from-input)")
    made.add_argument("--out", type=Path, help="also write all rows, as JSON")
    made = stage("show", _show, "write validation songs, edits and true answers as files to listen to, and a picture")
    _edited(made, songs=3)
    made.add_argument("--out", type=Path, required=True, help="folder to write to")
    made = stage("export", _export, "write the trained model in upstream's formats")
    made.add_argument("--out", type=Path, required=True, help="folder for adapter.ckpt, base/ and t5/")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def _trained(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data (default 0)")
    parser.add_argument("--batch", type=_positive, help="windows (codec) or inputs (model) a step")


def _edited(parser: argparse.ArgumentParser, songs: int) -> None:
    parser.add_argument("--bundle", type=Path, required=True, help="what `instruct-musicgen convert` made")
    parser.add_argument("--set", default="held-out", choices=("own", "held-out", "presets"), help="which songs")
    parser.add_argument("--songs", type=_positive, default=songs, help="how many (default %(default)s)")
    parser.add_argument("--greedy", action="store_true", help="take the likeliest codes")
    parser.add_argument("--top-k", type=_positive, default=250, help="codes to sample from (default %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, help="of sampling (default 1)")
    parser.add_argument("--guidance", type=float, default=3.0, help="weight of the sentence (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of sampling (default 0)")
    parser.add_argument("--backend", default="auto", help="as of `instruct-musicgen edit`")


def _sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("greedy", "top_k", "temperature", "guidance", "seed")
    return {name: getattr(arguments, name) for name in names}


def _torch(device: str, fast: bool = True) -> None:
    """Get torch ready: as many threads as OMP_NUM_THREADS says, one without it; `fast` lets a GPU multiply in TF32."""
    need_torch()
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch finds no GPU here; use --device cpu")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = fast
    torch.backends.cudnn.benchmark = True


def _compose(arguments: argparse.Namespace, work: Workspace) -> None:
    from .music.library import SETS, write_songs

    for name in SETS:
        if name != "train":
            write_songs(work, name, arguments.validation, jobs=arguments.jobs)
    write_songs(work, "train", arguments.songs, arguments.first, arguments.jobs)


def _codec(arguments: argparse.Namespace, work: Workspace) -> None:
    _torch(arguments.device)
    from .codec.train import CodecSettings, train_codec

    batch = {"batch": arguments.batch} if arguments.batch else {}
    settings = CodecSettings(steps=arguments.steps, decoder_steps=arguments.decoder_steps, seed=arguments.seed, **batch)
    train_codec(work, settings, arguments.device, EVERY, arguments.measured)


def _encode(arguments: argparse.Namespace, work: Workspace) -> None:
    _torch(arguments.device, fast=False)
    from .codec.encode import encode_songs
    from .music.library import SETS

    for name in SETS:
        if name != "train":
            encode_songs(work, name, arguments.device, 1, arguments.validation)
    encode_songs(work, "train", arguments.device, arguments.levels)


def _model(arguments: argparse.Namespace, work: Workspace) -> None:
    _torch(arguments.device)
    from .edits.network import Shape
    from .edits.train import EditSettings, anneal_model, train_model

    batch = {"prefixes": arguments.batch} if arguments.batch else {}
    settings = EditSettings(shape=Shape(layers=arguments.layers), seed=arguments.seed, **batch)
    if arguments.anneal:
        anneal_model(work, settings, arguments.device, arguments.anneal, EVERY, arguments.measured)
    else:
        train_model(work, settings, arguments.device, arguments.steps, EVERY, arguments.measured)


def _judge(arguments: argparse.Namespace, work: Workspace) -> None:
    from .judge.run import judge, lines

    notes, sampling = not arguments.no_notes, _sampling(arguments)
    result = judge(
        work, arguments.bundle, arguments.set, arguments.songs, backend=arguments.backend, notes=notes, **sampling
    )
    for line in lines(result):
        print(line)
    if arguments.out:
        text = json.dumps(result, indent=1) + "\n"
        write_whole({arguments.out: text})
    work.append_log("judge", {key: value for key, value in result.items() if key != "rows"})


def _ranks(arguments: argparse.Namespace, work: Workspace) -> None:
    from ...candidates.clap import CHECKPOINT, Clap
    from .judge.ranks import judge_ranks, lines

    clap = None if arguments.clap is None else Clap(arguments.clap or CHECKPOINT, "omit --clap")
    result = judge_ranks(
        work, arguments.bundle, arguments.set, arguments.songs, arguments.candidates, backend=arguments.backend,
        clap=clap, **_sampling(arguments),
    )  # fmt: skip
    _judged("ranks", result, lines(result), arguments.out, work)


def _splits(arguments: argparse.Namespace, work: Workspace) -> None:
    from ...from_input.mask import SHARPNESS
    from .judge.splits import judge_splits, lines

    shapes = [(q, b) for q in arguments.sharpness or [SHARPNESS] for b in arguments.excess or [None]]
    result = judge_splits(
        work, arguments.bundle, arguments.set, arguments.songs, backend=arguments.backend, seeds=arguments.seeds,
        shapes=shapes, **_sampling(arguments),
    )  # fmt: skip
    _judged("splits", result, lines(result), arguments.out, work)


def _judged(name: str, result: dict[str, Any], lines: Iterable[str], out: Path | None, work: Workspace) -> None:
    """Print a judgment's lines, write it whole if asked to, and log it without its rows."""
    for line in lines:
        print(line)
    if out:
        write_whole({out: json.dumps(result, indent=1) + "\n"})
    work.append_log(name, {key: value for key, value in result.items() if key != "rows"})


def _show(arguments: argparse.Namespace, work: Workspace) -> None:
    from .judge.show import show

    sampling = _sampling(arguments)
    show(work, arguments.bundle, arguments.set, arguments.songs, arguments.out, arguments.backend, **sampling)
    print(f"{arguments.out}: written; begin with its README.md")


def _export(arguments: argparse.Namespace, work: Workspace) -> None:
    _torch("cpu")
    from .edits.export import export

    frames = export(work, arguments.out)
    files = f"--adapter {arguments.out / 'adapter.ckpt'} --base {arguments.out / 'base'} --t5 {arguments.out / 't5'}"
    command = f"instruct-musicgen convert {files} --trained-frames {frames} --everyday --out BUNDLE"
    print(f"{arguments.out}: written; make the bundle with: {command}")


if __name__ == "__main__":
    sys.exit(main())
