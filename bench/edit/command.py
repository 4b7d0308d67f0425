"""`bench edit`, or plain `bench`: a whole edit, stage by stage, fused against reference on this machine."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

from model.cli.shared_options import BACKENDS, KEYS_HELP
from model.errors import UsageError

from .. import options, result_files, stats, summary
from ..machine import openblas
from ..machine.bandwidth import Bandwidth
from ..output import console
from ..processes.child import Child
from ..processes.turns import Turns
from ..results import EditColumn, EditResult, EditSettings, Round
from ..sizes import bundles as sizes
from . import tables

COLUMNS = ("fused", "reference", "openblas")
MAX_ROUNDS_SECONDS = 20.0
"""Seconds that rounds may take where nobody said how many: short edits get more, until their ratio is precise."""
MAX_ROUNDS = 60


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the options of `bench edit`."""
    p = subparsers.add_parser("edit", help="a whole edit, stage by stage: fused against reference (the default)")
    where, add = p.add_mutually_exclusive_group(), p.add_argument
    where.add_argument(
        "--model", metavar="PATH_OR_REPO", help="a bundle (default: the small demo that ships with this program)"
    )
    add("--keys", metavar="MAP.json", help=f"for --model: {KEYS_HELP}")
    geometry = "random weights of MusicGen's geometry, made once (see `bench sizes`)"
    where.add_argument("--size", choices=options.SIZES, help=geometry)
    add("--bits", type=int, choices=sizes.BITS, help="bits of the projections of --size (default 4)")
    length = "length of the clip (default 2 for the demo and tiny, else 5; with --quick 1)"
    add("--seconds", type=float, help=length)
    add("--batch", type=int, default=1, help="clips edited together (default 1)")
    add("--steps", type=int, help="measure so many decode steps and project the rest (default: all)")
    add("--backend", choices=BACKENDS, default="auto", help="backend of the fused column (default auto)")
    columns = """which of fused,reference,openblas to run (default: the first two; with --size also openblas
        where it can run; with --quick only the first of medium and large)"""
    add("--columns", metavar="LIST", help=columns)
    rounds = "rounds of each column (default 5, with --quick 3; short edits get more, until their ratio is precise)"
    add("--repeat", type=int, help=rounds)
    limit = """longest time of a stage in a round; of a slower one only a part is measured, and the rest projected
        (default 20, with --quick 2; 0: no limit)"""
    add("--limit", type=float, metavar="SECONDS", help=limit)
    add("--quick", action="store_true", help="shorter clip, fewer rounds: under a minute")
    options.add(p, "edit-<model>")


def run(args: argparse.Namespace) -> int:
    """Measure, print and save."""
    options.check(args)
    result = measure(args)
    options.finish(args, result, [tables.table(result), tables.memory_table(result)])
    bad = {summary.name(c): found for c in result.columns if (found := summary.unfused(c))}
    for label, found in bad.items():
        what = ", ".join(f"{n} {operation}" for operation, n in found.items())
        console.say(f"not fused: {label} ran without its own kernels: {what}")
    return 1 if bad else 0


def measure(args: argparse.Namespace) -> EditResult:
    """Run all columns, round by round in turn, and return the result with every sample."""
    settings, labels = _settings(args), _labels(args)
    model, keys = str(_bundle(settings, args)), args.keys and str(Path(args.keys).expanduser().absolute())
    more_seconds = (MAX_ROUNDS_SECONDS / 2 if args.quick else MAX_ROUNDS_SECONDS) if args.repeat is None else 0.0
    left_out = {} if args.columns is not None else _left_out(args)
    origin = result_files.origin()
    with Turns(EditColumn, Round) as turns, console.progress() as bar:
        task = bar.add_task("loading and warming up", total=len(labels) * (settings.repeat + 1) + 1)
        advance = partial(bar.advance, task)
        for label in labels:
            child = Child(label, openblas.environment() if label == "openblas" else None)
            backend = settings.backend if label == "fused" else "reference"
            slow = label != "fused" or backend in ("reference", "interpreter")
            asked = {name: getattr(settings, name) for name in ("seconds", "batch", "steps")}
            asked |= {"model": model, "keys": keys, "backend": backend, "limit": settings.limit if slow else None}
            turns.start(child, "bench.edit.session:column", asked)
            advance()
        columns = turns.columns
        stream = turns.enter_context(Child("bandwidth"))
        metal = {"metal": columns[0].backend == "metal"}
        answer = stream.ask("load", make="bench.machine.bandwidth:column", settings=metal)
        bandwidth = result_files.convert(answer, Bandwidth)
        bar.update(task, advance=1, description="measuring")
        n, started = 0, time.perf_counter()

        def more() -> bool:
            left = n < MAX_ROUNDS and time.perf_counter() - started < more_seconds
            return left and stats.unsure(*(summary.samples(c, summary.WHOLE) for c in columns))

        while n < settings.repeat or more():
            bandwidth.rounds.append(stream.ask("round"))
            turns.round(n, advance)
            n += 1
            if n >= settings.repeat:
                bar.update(task, total=len(labels) * (n + 2) + 1)
    return EditResult(**origin, settings=settings, bandwidth=bandwidth, columns=columns, left_out=left_out)


def _bundle(settings: EditSettings, args: argparse.Namespace) -> Path | str:
    """Return the model's folder or repo, made first if it isn't there; set its name in the settings."""
    from model.bundle.bundle import demo_path

    if args.model:
        path = Path(args.model).expanduser()
        settings.name = path.resolve().name if path.exists() else args.model.replace("/", "--")
        return path.resolve() if path.exists() else args.model
    settings.name = args.size or "demo bundle"
    return sizes.bundle(args.size, args.bits or 4) if args.size else demo_path()


def _settings(args: argparse.Namespace) -> EditSettings:
    """Return the settings, all checked except the model, which may take a minute to make."""
    tiny = not args.model and args.size in (None, "tiny")
    seconds = args.seconds if args.seconds is not None else 1.0 if args.quick else 2.0 if tiny else 5.0
    if not 0.02 <= seconds <= 600:
        raise UsageError(f"--seconds {seconds:g} must lie between 0.02 (one frame) and 600")
    limit = args.limit if args.limit is not None else (2.0 if args.quick else 20.0)
    options.within("--limit", limit, 0)
    if args.steps is not None:
        options.positive("--steps", args.steps)
    if args.keys and not args.model:
        raise UsageError("--keys belongs to --model; the bundles that bench makes need none")
    if args.bits and not args.size:
        raise UsageError("--bits belongs to --size; a bundle has the bits it was made with")
    return EditSettings(
        name="",
        bits=args.bits or 4 if args.size else None,
        backend=args.backend,
        seconds=seconds,
        batch=options.positive("--batch", args.batch),
        steps=args.steps,
        limit=limit or None,
        repeat=options.positive("--repeat", args.repeat if args.repeat is not None else 3 if args.quick else 5),
    )


def _left_out(args: argparse.Namespace) -> dict[str, str]:
    """Say which columns run only if --columns names them, and why. In a tiny model a real BLAS changes nothing."""
    out = {} if args.size in (None, "tiny") else {"openblas": openblas.unavailable() or "--quick" * args.quick}
    if args.quick and args.size in ("medium", "large"):
        out["reference"] = "--quick: it takes minutes"
    return {label: reason for label, reason in out.items() if reason}


def _labels(args: argparse.Namespace) -> list[str]:
    if args.columns is None:
        some = COLUMNS[:2] if args.size in (None, "tiny") else COLUMNS
        return [label for label in some if label not in _left_out(args)]
    labels = [label.strip() for label in args.columns.split(",")]
    if unknown := [label for label in labels if label not in COLUMNS]:
        raise UsageError(f"--columns {unknown[0]!r} is not known; use some of {', '.join(COLUMNS)}")
    if len(set(labels)) < len(labels):
        raise UsageError(f"--columns {args.columns} names a column twice")
    return labels
