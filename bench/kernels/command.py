"""`bench kernels`: every fused operation on every backend against stock MLX, with its error and its traffic."""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import time
from typing import Any

import mlx.core as mx
import numpy as np

import kernels as fused
from model.cli.arguments import BACKENDS
from model.errors import UsageError, UserError
from reference.contract import Ops

from .. import console, options, results, stats, tables
from ..edit import summary
from ..edit.evidence import FUSED
from ..machine import hardware as machine
from ..machine.bandwidth import Stream
from ..machine.environment import describe
from .cases import Arguments, Case, call, cases, cast, dense, error

STOCK = "stock MLX"
SGEMM = "float32 sgemm"
"""A yardstick, not a backend of ours: the BLAS that the native backend calls, on the dequantized matrix."""
GEMM_ROWS = 64
"""Rows from which a product is limited by arithmetic, so that sgemm is its yardstick."""
FRESH_BYTES = 256 << 20
SAMPLE_SECONDS = 0.02
WRONG = 0.02
"""Relative error past any rounding: bfloat16 keeps 8 bits, and int8 activations are off by 0.006."""
PASSES = 3
MOST = 200
"""Samples of a case in a pass, at most, on a noisy machine."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """The options of `bench kernels`."""
    p = subparsers.add_parser("kernels", help="every kernel against stock MLX: time, error, traffic")
    p.add_argument("--size", choices=("demo", "small", "medium", "large"), default="large",
                   help="whose shapes (default large)")
    p.add_argument("--backend", choices=BACKENDS, default="auto",
                   help="one backend, or `auto` for all that can run here (default)")
    p.add_argument("--only", metavar="PATTERN", help="cases whose name matches, as in 'prefix*'")
    p.add_argument("--repeat", type=int, help="samples, at least (default 15, with --quick 7)")
    p.add_argument("--limit", type=float, default=None, metavar="SECONDS",
                   help="time for a case, where that allows (default 15, with --quick 3)")
    p.add_argument("--traffic", action=argparse.BooleanOptionalAction, default=None,
                   help="count the Metal kernels' bytes in the interpreter (default: unless --quick)")
    p.add_argument("--quick", action="store_true", help="fewer cases and samples: under a minute")
    options.add(p, "kernels-<size>")


def run(args: argparse.Namespace) -> int:
    """Measure, print, save."""
    options.check(args)
    result = measure(args)
    options.finish(args, result, tables_of(result))
    for case, label, value in wrong(result):
        message = f"wrong result: {case}, {label}: relative error {value:.2g}"
        console.ERRORS.print(message, highlight=False, soft_wrap=True)
    return 1 if wrong(result) else 0


def wrong(result: results.Result) -> list[tuple[str, str, float]]:
    """Results too far from the oracle to be rounding: their times mean nothing."""
    found = []
    for record in result["cases"]:
        columns = record["columns"] | ({"interpreter": record["traffic"]} if "traffic" in record else {})
        errors = [(label, column["error"]["relative_l2"]) for label, column in columns.items()]
        found += [(record["case"], label, value) for label, value in errors if not value < WRONG]
    return found


def _interpreter() -> bool:
    try:
        fused.load("interpreter")
    except (fused.BackendUnavailable, ImportError):
        return False
    return True


def backends(asked: str) -> tuple[dict[str, Ops], dict[str, str]]:
    """The columns: stock MLX (the reference) and the fused backends that can run here, without the interpreter; and why
    the others cannot."""
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


def measure(args: argparse.Namespace) -> results.Result:
    """Time all cases; the result has every sample."""
    from model.synthetic import PRESETS

    preset = PRESETS[args.size]
    repeat = options.positive("--repeat", args.repeat if args.repeat is not None else 7 if args.quick else 15)
    limit = args.limit if args.limit is not None else 3.0 if args.quick else 15.0
    options.within("--limit", limit, 0)
    chosen = [c for c in cases(preset.lm, preset.codec, group_size=preset.group_size)
              if (c.quick or not args.quick) and (args.only is None or fnmatch.fnmatch(c.name, f"{args.only}*"))]
    if not chosen:
        raise UsageError(f"--only {args.only!r} matches no case; `bench kernels --quick` lists some")
    columns, left_out = backends(args.backend)
    result = results.new("kernels", {"name": args.size, "repeat": repeat, "limit": limit})
    result["left_out"] = left_out
    stream = Stream(metal="metal" in columns)
    result["bandwidth"] = stream.measure()
    result["cases"] = []
    traffic = args.traffic if args.traffic is not None else not args.quick and _interpreter()
    with console.progress() as bar:
        task = bar.add_task("kernels", total=PASSES * len(chosen))
        # A machine has slow minutes, and memory lies better or worse: each case is timed in several passes over all of
        # them, every time in fresh memory, so that its samples span the run.
        each = -(-repeat // PASSES)
        for n, case in itertools.product(range(PASSES), chosen):
            bar.update(task, description=case.name)
            record = time_case(case, columns, repeat=each, limit=limit / PASSES, stream=stream)
            if n:
                _join(next(r for r in result["cases"] if r["case"] == case.name), record)
            else:
                if traffic and case.operation in FUSED and case.flops < 1e9:
                    from .traffic import count

                    record["traffic"] = count(case)
                result["cases"].append(record)
            bar.advance(task)
    return result


def _join(record: dict[str, Any], later: dict[str, Any]) -> None:
    """Add a later pass's samples."""
    record["stream"] += later["stream"]
    record["busy"] = [None if None in pair else sum(pair) for pair in zip(record["busy"], later["busy"])]
    for label, column in record["columns"].items():
        column["seconds"] += later["columns"][label]["seconds"]


def time_case(
    case: Case, columns: dict[str, Ops], *, repeat: int, limit: float, stream: Stream | None = None
) -> dict[str, Any]:
    """One case on all columns: samples taken in turn, each over calls whose weights are not in the cache; and a pass of
    `stream` with each, so that what slowed all of memory can be told from what slowed a kernel.

    A sample evaluates one graph of several independent calls, as a model does, and divides; each call reads another
    copy of the weights, as many as it takes to exceed the cache.
    """
    rng = np.random.default_rng(0)
    masters = [case.make(rng)]
    copies = max(1, min(64, -(-min(4 * machine.cache_bytes(), FRESH_BYTES) // max(case.reads(masters[0]), 1))))
    masters += [case.make(rng) for _ in range(copies - 1)]
    record: dict[str, Any] = {"case": case.name, "operation": case.operation, "flops": case.flops}
    record |= {"columns": {}, "stream": []}
    runners = {label: _Runner(case.operation, ops, masters) for label, ops in columns.items()}
    if "native" in columns and case.gemm_rows >= GEMM_ROWS:
        runners[SGEMM] = _Runner("linear", columns["native"], [dense(m) for m in masters])
    for label, runner in runners.items():
        reads = runner.arguments[0]["w"].nbytes if label == SGEMM else case.reads(runner.arguments[0])
        record["columns"][label] = {
            "backend": runner.ops.name, "reads": reads, "copies": copies, "seconds": [],
            "error": error(case, masters[0], runner.result()),
        }
    for runner in runners.values():
        runner.calibrate()
    round_seconds = sum(r.calls * r.estimate for r in runners.values())
    count = max(1, min(repeat, int(limit / max(round_seconds, 1e-9))))
    started, n, before = time.perf_counter(), 0, machine.busy()
    while n < count or (n < MOST and time.perf_counter() - started < limit and _unsure(record)):
        if stream is not None:
            record["stream"].append(stream.read())
        for label, runner in list(runners.items()) if n % 2 == 0 else list(runners.items())[::-1]:
            record["columns"][label]["seconds"].append(runner.sample())
        n += 1
    record["busy"] = machine.busy().since(before)
    for label, runner in runners.items():
        record["columns"][label]["calls"] = runner.calls
    return record


def _unsure(record: dict[str, Any]) -> bool:
    """Whether noise asks for more samples."""
    columns = record["columns"]
    base = columns.get(STOCK, next(iter(columns.values())))["seconds"]
    return any(stats.unsure(base, c["seconds"]) for c in columns.values() if c["seconds"] is not base)


class _Runner:
    """One column of a case: the operation, its arguments in its own dtypes, and how many calls make a sample."""

    def __init__(self, operation: str, ops: Ops, masters: list[Arguments]) -> None:
        self.operation, self.ops = operation, ops
        self.arguments = [cast(m, ops) for m in masters]
        mx.eval(list(itertools.chain.from_iterable(_arrays(a) for a in self.arguments)))
        self._turn = itertools.cycle(self.arguments)
        self.calls, self.estimate = 1, 0.0

    def result(self) -> mx.array:
        """Of the first copy."""
        out = call(self.ops, self.operation, self.arguments[0])
        mx.eval(out)
        return out

    def calibrate(self) -> None:
        """Choose the number of calls so that a sample lasts SAMPLE_SECONDS or uses every copy four times; then a sample
        that does not count, since the first one takes up to twice as long."""
        self.estimate = self.sample()
        wanted = int(SAMPLE_SECONDS / max(self.estimate, 1e-7))
        self.calls = max(1, min(wanted, max(4 * len(self.arguments), 16)))
        self.sample()

    def sample(self) -> float:
        """Seconds of one call."""
        start = time.perf_counter()
        mx.eval([call(self.ops, self.operation, next(self._turn)) for _ in range(self.calls)])
        return (time.perf_counter() - start) / self.calls


def _arrays(arguments: Arguments) -> list[mx.array]:
    out: list[mx.array] = []
    for value in arguments.values():
        if isinstance(value, mx.array):
            out.append(value)
        elif isinstance(value, tuple):
            out += [v for v in value if isinstance(v, mx.array)]
    return out


def table(result: results.Result) -> tables.Table:
    """A row for each case and backend: time, bytes over time, share of streaming bandwidth, error, against stock."""
    rows = []
    for record in result["cases"]:
        stock = record["columns"].get(STOCK)
        for label, column in record["columns"].items():
            s = stats.summarize(column["seconds"])
            rate = column["reads"] / s.median
            faster = stats.paired_ratio(stock["seconds"], column["seconds"])
            rows.append([
                record["case"] if label == STOCK else "", label, tables.measured(s), f"{rate / 1e9:.3g}",
                f"{100 * rate / summary.streaming(result):.0f} %", f"{record['flops'] / s.median / 1e9:.3g}",
                f"{column['error']['relative_l2']:.1e}",
                "" if label == STOCK else tables.ratio(faster, s.n),
            ])
    environment = result["environment"]
    notes = [
        f"{describe(environment)}; {result['created'][:10]}",
        "Medians, ± half the quartile distance; cold weights; columns in turn; streaming "
        f"{summary.streaming(result) / 1e9:.3g} GB/s ({result['bandwidth']['method']}). "
        "GB/s counts what the call must read. Error: relative L2 distance from the float64 oracle. Stock MLX is the "
        "reference: plain MLX in the dtype that serves it best here.",
    ]
    notes += [f"Left out: {label}: {reason}." for label, reason in result.get("left_out", {}).items()]
    notes += [note for record in result["cases"] if SGEMM in record["columns"] for note in against_sgemm(record)]
    headers = ["case", "backend", "time", "GB/s", "of streaming", "GFLOP/s", "error", "faster than stock"]
    return tables.Table(f"kernels at the shapes of {result['settings']['name']}", headers, rows, notes)


def against_sgemm(record: dict[str, Any]) -> list[str]:
    """What share of sgemm's speed each fused column reached in the same rounds."""
    yardstick = record["columns"][SGEMM]["seconds"]
    fused = {label: c["seconds"] for label, c in record["columns"].items() if label not in (STOCK, SGEMM)}
    speeds = {label: stats.paired_ratio(yardstick, seconds) for label, seconds in fused.items()}
    return [
        f"{record['case']}: {label} runs at {tables.ratio(speed, len(yardstick))} of the speed of {SGEMM} on the "
        "dequantized matrix, through the BLAS that the native backend calls."
        for label, speed in speeds.items()
    ]


def traffic_table(result: results.Result) -> tables.Table:
    """How often each Metal kernel asks for the bytes that it must read, counted in the interpreter."""
    rows = []
    for record in result["cases"]:
        if "traffic" in record:
            t = record["traffic"]
            times = ", ".join(f"{name} {b['loaded'] / max(b['needed'], 1):.3g}x" for name, b in t["buffers"].items())
            rows.append([
                record["case"], str(t["launches"]), tables.size(t["needed"]), f"{t['loaded'] / t['needed']:.3g}x",
                times, f"{t['error']['relative_l2']:.1e}",
            ])
    notes = [
        "The Metal source as it is, run on this CPU in float16: accesses before any cache, no time; 1x is the least. "
        "Scales and biases are asked for by several lanes of a simdgroup at once, which a GPU serves with one read."
    ]
    headers = ["case", "launches", "must be read", "loaded", "by buffer", "error"]
    return tables.Table("traffic of the Metal kernels", headers, rows, notes)


def tables_of(result: results.Result) -> list[tables.Table]:
    """Times, and traffic where it was counted."""
    counted = any("traffic" in record for record in result["cases"])
    return [table(result), *([traffic_table(result)] if counted else [])]
