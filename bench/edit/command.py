"""`bench edit`, or plain `bench`: a whole edit, stage by stage, fused against reference on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from model.cli.arguments import BACKENDS
from model.errors import UsageError

from .. import console, options, results, stats
from ..machine import openblas as interpose
from ..processes.child import Child
from ..sizes import bundles as sizes
from . import summary
from .session import Settings

COLUMNS = ("fused", "reference", "openblas")
MORE = 20.0
"""Seconds that rounds may take where nobody said how many: short edits have more, until their ratio is sure."""
MOST = 60


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """The options of `bench edit`."""
    p = subparsers.add_parser("edit", help="a whole edit, stage by stage: fused against reference (the default)")
    where = p.add_mutually_exclusive_group()
    where.add_argument("--model", metavar="PATH_OR_REPO", help="a bundle (default: the embedded demo bundle)")
    where.add_argument("--size", choices=("demo", "small", "medium", "large"),
                       help="random weights of MusicGen's geometry, made once (see `bench sizes`)")
    p.add_argument("--bits", type=int, choices=sizes.BITS, help="of --size or the demo bundle (default 4)")
    p.add_argument("--seconds", type=float,
                   help="length of the clip (default 2 for the demo bundle, else 5; with --quick 1)")
    p.add_argument("--batch", type=int, default=1, help="clips edited together (default 1)")
    p.add_argument("--steps", type=int, help="measure so many decode steps and project the rest (default: all)")
    p.add_argument("--backend", choices=BACKENDS, default="auto", help="of the fused column (default auto)")
    p.add_argument("--columns", default=None, metavar="LIST",
                   help="which of fused,reference,openblas to run (default: the first two; with --size also openblas "
                   "where it can run; with --quick only the first of medium and large)")
    p.add_argument("--repeat", type=int, help="rounds of each column (default 5, with --quick 3, and more of "
                   "short edits until the ratio is sure)")
    p.add_argument("--limit", type=float, metavar="SECONDS",
                   help="what a stage of a slow column may take in a round before it is measured in part and projected "
                   "(default 20, with --quick 2; 0 for no limit)")
    p.add_argument("--quick", action="store_true", help="shorter clip, fewer rounds: under a minute")
    options.add(p, "edit-<model>")


def run(args: argparse.Namespace) -> int:
    """Measure, print, save."""
    options.check(args)
    result = measure(args)
    options.finish(args, result, [summary.table(result), summary.memory_table(result)])
    bad = {summary.name(c): found for c in result["columns"] if (found := summary.unfused(c))}
    for label, found in bad.items():
        what = ", ".join(f"{n} {operation}" for operation, n in found.items())
        console.ERRORS.print(f"not fused: {label} ran without its own kernels: {what}", highlight=False, soft_wrap=True)
    return 1 if bad else 0


def measure(args: argparse.Namespace) -> results.Result:
    """Run all columns, round by round in turn, and return the result with every sample."""
    settings, labels = _settings(args), _labels(args)
    repeat = options.positive("--repeat", args.repeat if args.repeat is not None else 3 if args.quick else 5)
    name, bundle = _bundle(args)
    settings = dataclasses.replace(settings, model=str(bundle))
    more = (MORE / 2 if args.quick else MORE) if args.repeat is None else 0.0
    about = {"name": name, "bits": None if args.model else args.bits or 4, "repeat": repeat}
    result = results.new("edit", dataclasses.asdict(settings) | about)
    result["settings"].pop("model")
    result["left_out"] = {} if args.columns is not None else _left_out(args)
    with ExitStack() as stack, console.progress() as bar:
        task = bar.add_task("loading and warming up", total=len(labels) * (repeat + 1) + 1)
        children, columns = [], []
        for label in labels:
            extra = interpose.environment() if label == "openblas" else None
            child = stack.enter_context(Child(label, extra))
            backend = args.backend if label == "fused" else "reference"
            slow = label != "fused" or backend in ("reference", "interpreter")
            asked = dataclasses.replace(settings, backend=backend, limit=settings.limit if slow else None)
            record = child.ask("load", settings=dataclasses.asdict(asked))
            columns.append({"label": label, "rounds": [], **record})
            children.append(child)
            bar.advance(task)
        stream = stack.enter_context(Child("bandwidth"))
        result["bandwidth"] = stream.ask("bandwidth", metal=columns[0]["backend"] == "metal") | {"rounds": []}
        bar.update(task, advance=1, description="measuring")
        n, started = 0, time.perf_counter()
        while n < repeat or (more and n < MOST and time.perf_counter() - started < more and _unsure(columns)):
            result["bandwidth"]["rounds"].append(stream.ask("pass")["seconds"])
            # Each round runs the columns in the opposite order of the one before, so that a drift hits all alike.
            order = list(zip(children, columns))
            for child, column in order if n % 2 == 0 else order[::-1]:
                column["rounds"].append(child.ask("round"))
                bar.advance(task)
            n += 1
            if n >= repeat:
                bar.update(task, total=len(labels) * (n + 2) + 1)
    result["columns"] = columns
    return result


def _unsure(columns: list[dict[str, Any]]) -> bool:
    times = [summary.samples(c, summary.WHOLE) for c in columns]
    return any(stats.unsure(other, times[0]) for other in times[1:])


def _bundle(args: argparse.Namespace) -> tuple[str, Path | str]:
    from model.bundle.bundle import demo_path

    if args.model:
        if args.bits:
            raise UsageError("--bits belongs to --size or the demo bundle; a --model has the bits it was made with")
        path = Path(args.model).expanduser()
        return (path.resolve().name, path.resolve()) if path.exists() else (args.model.replace("/", "--"), args.model)
    if args.size in (None, "demo") and args.bits in (None, 4) and demo_path().exists():
        return "demo bundle", demo_path()
    size = args.size or "demo"
    name = "demo bundle" if size == "demo" else size
    return name, sizes.bundle(size, args.bits or 4)


def _settings(args: argparse.Namespace) -> Settings:
    """All but the model, which may take a minute to make."""
    demo = not args.model and args.size in (None, "demo")
    seconds = args.seconds if args.seconds is not None else 1.0 if args.quick else 2.0 if demo else 5.0
    if not 0.02 <= seconds <= 600:
        raise UsageError(f"--seconds {seconds:g} must lie between 0.02 (one frame) and 600")
    limit = args.limit if args.limit is not None else (2.0 if args.quick else 20.0)
    options.within("--limit", limit, 0)
    if args.steps is not None:
        options.positive("--steps", args.steps)
    return Settings(
        model="", backend=args.backend, seconds=seconds, batch=options.positive("--batch", args.batch),
        steps=args.steps, limit=limit or None,
    )


def _left_out(args: argparse.Namespace) -> dict[str, str]:
    """Columns that are not run unless --columns names them, and why. Of a tiny model a real BLAS changes nothing."""
    out = {} if args.size in (None, "demo") else {"openblas": interpose.unavailable() or "--quick" * args.quick}
    if args.quick and args.size in ("medium", "large"):
        out["reference"] = "--quick: it takes minutes"
    return {label: reason for label, reason in out.items() if reason}


def _labels(args: argparse.Namespace) -> list[str]:
    if args.columns is None:
        some = COLUMNS[:2] if args.size in (None, "demo") else COLUMNS
        return [label for label in some if label not in _left_out(args)]
    labels = [label.strip() for label in args.columns.split(",")]
    if unknown := [label for label in labels if label not in COLUMNS]:
        raise UsageError(f"--columns {unknown[0]!r} is not known; use some of {', '.join(COLUMNS)}")
    if len(set(labels)) < len(labels):
        raise UsageError(f"--columns {args.columns} names a column twice")
    return labels
