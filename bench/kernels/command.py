"""`bench kernels`: every fused operation on every backend against stock MLX, with its error and its traffic."""

from __future__ import annotations

import argparse
import fnmatch
import itertools
from typing import Any

import kernels as fused
from kernels import FUSED
from kernels.cases import Case, Draw, error
from model.cli.shared_options import BACKENDS
from model.errors import UsageError, UserError
from reference.contract import Ops

from .. import options, result_files
from ..machine.bandwidth import StreamedBuffer
from ..machine.hardware import Busy
from ..output import console
from ..results import STOCK, KernelCase, KernelSettings, KernelsResult, Traffic
from .shapes import cases
from .tables import tables_of, wrong
from .timer import time_case

PASSES = 3
MAX_COUNTED_FLOPS = 1e9
"""Operations of a case above which the interpreter would take minutes to count its bytes."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the options of `bench kernels`."""
    p = subparsers.add_parser("kernels", help="every kernel against stock MLX: time, error, traffic")
    add = p.add_argument
    add("--size", choices=options.SIZES, default="large", help="MusicGen size whose shapes are timed (default large)")
    one = "one backend, or `auto` for all that can run here (default)"
    add("--backend", choices=BACKENDS, default="auto", help=one)
    add("--only", metavar="PATTERN", help="cases whose name matches, as in 'prefix*'")
    add("--repeat", type=int, help="least number of samples (default 15, with --quick 7)")
    limit = "time for a case, if its least samples fit in it (default 15, with --quick 3)"
    add("--limit", type=float, metavar="SECONDS", help=limit)
    count = "count the Metal kernels' bytes in the interpreter (default: yes, without --quick)"
    add("--traffic", action=argparse.BooleanOptionalAction, default=None, help=count)
    add("--quick", action="store_true", help="fewer cases and samples: under a minute")
    options.add(p, "kernels-<size>")


def run(args: argparse.Namespace) -> int:
    """Measure, print and save."""
    options.check(args)
    result = measure(args)
    options.finish(args, result, tables_of(result))
    for case, label, value in wrong(result):
        console.say(f"wrong result: {case}, {label}: relative error {value:.2g}")
    return 1 if wrong(result) else 0


def backends(asked: str) -> tuple[dict[str, Ops], dict[str, str]]:
    """Return stock MLX (the reference) and the fused backends that can run here, without the interpreter.

    The second result says why the others cannot.
    """
    columns, left_out = {STOCK: fused.load("reference")}, {}
    for name in ("metal", "native") if asked == "auto" else (asked,):
        if name == "reference":
            continue
        try:
            columns[name] = fused.load(name)
        except (fused.BackendUnavailable, ImportError) as e:
            if asked != "auto":
                raise UserError(str(e)) from e
            left_out[name] = str(e)
    return columns, left_out


def measure(args: argparse.Namespace) -> KernelsResult:
    """Time all cases and return the result with every sample."""
    from model.synthetic import PRESETS

    preset = PRESETS[args.size]
    repeat = options.positive("--repeat", args.repeat if args.repeat is not None else 7 if args.quick else 15)
    limit = args.limit if args.limit is not None else 3.0 if args.quick else 15.0
    options.within("--limit", limit, 0)
    chosen = [
        c
        for c in cases(preset.lm, preset.codec, group_size=preset.group_size)
        if (c.quick or not args.quick) and (args.only is None or fnmatch.fnmatch(c.name, f"{args.only}*"))
    ]
    if not chosen:
        raise UsageError(f"--only {args.only!r} matches no case; `bench kernels --quick` lists some")
    columns, left_out = backends(args.backend)
    origin, stream = result_files.origin(), StreamedBuffer(metal="metal" in columns)
    settings = KernelSettings(args.size, repeat, limit)
    result = KernelsResult(**origin, settings=settings, left_out=left_out, bandwidth=stream.measure(), cases=[])
    traffic = args.traffic if args.traffic is not None else not args.quick and fused.available()["interpreter"] is None
    with console.progress() as bar:
        task = bar.add_task("kernels", total=PASSES * len(chosen))
        # A machine has slow minutes, and memory lies better or worse: each case is timed in several passes over all of
        # them, every time in fresh memory, so that its samples span the run.
        each = -(-repeat // PASSES)
        for n, case in itertools.product(range(PASSES), chosen):
            bar.update(task, description=case.name)
            record = time_case(case, columns, repeat=each, limit=limit / PASSES, stream=stream)
            if n:
                _join(next(r for r in result.cases if r.case == case.name), record)
            else:
                if traffic and case.operation in FUSED and case.flops < MAX_COUNTED_FLOPS:
                    record.traffic = _count(case)
                result.cases.append(record)
            bar.advance(task)
    return result


def _count(case: Case) -> Traffic:
    """Run one call of the case; return the bytes of the buffers that must be read, and the error."""
    from kernels.beside_mlx.traffic import by_buffer, run

    arguments = case.make(Draw())
    built, result = run(case.operation, arguments)
    read = {*case.needed, *(("scales", "biases") if "w" in case.needed else ())}
    buffers = by_buffer(built, lambda name: name if name in read else None)
    loaded, needed = (sum(b[kind] for b in buffers.values()) for kind in ("loaded", "needed"))
    return Traffic(buffers, loaded, needed, len(built), dict(error(case, arguments, result)))


def _join(record: KernelCase, later: KernelCase) -> None:
    """Add a later pass's samples."""
    record.stream += later.stream
    record.busy = Busy(*(None if None in pair else sum(pair) for pair in zip(record.busy, later.busy)))  # type: ignore
    for label, column in record.columns.items():
        column.seconds += later.columns[label].seconds
