"""`bench compare A.json B.json`: is B slower or faster than A, or is it noise? For CI: exit 1 on a regression.

What is compared is each fused time over the reference's of the same rounds: machines and neighbours change seconds,
much less that ratio. Noise on a shared machine is one-sided, so of both the median of the faster half counts. B
regressed where the ratio grew by more than the threshold and the bootstrap interval of its growth, widened for the
number of comparisons (Bonferroni), lies above half the threshold.

Two things slow fused code and not the reference, which computes on one core. They are taken off first, so that they
make a small regression "too noisy to tell" and are never a false alarm: cores that other programs kept busy during B,
at most what they cost a program that uses all cores; and memory that streamed more slowly during B, for the share of
the streaming bandwidth that the code was using.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.errors import UsageError, UserError

from . import console, machine, results, stats, summary
from .environment import describe
from .session import STAGES
from .stats import Interval
from .tables import Table

THRESHOLD = 0.10
IDLE = 0.1
"""Cores that others may use before it counts: ticks, and this program's own bookkeeping in other processes."""
SHORT = 1e-3
"""Seconds under which a stage of an edit is not judged: a timer tick or a page fault would decide."""


@dataclass(frozen=True)
class Series:
    """Samples of one thing measured, the reference's of the same rounds, and what happened on the machine meanwhile."""

    seconds: list[float]
    base: list[float] | None = None
    stream: list[float] | None = None  # seconds of the streaming passes of the whole run
    share: float = 0.0  # of the streaming bandwidth that it used, at most 1
    load: float = 0.0  # cores that others kept busy
    cores: int = 1


@dataclass(frozen=True)
class Verdict:
    """One comparison."""

    name: str
    change: Interval  # of B over A; above 1 is slower
    outcome: str  # "regression", "improvement", "no difference", "too noisy to tell"
    relative: bool
    samples: tuple[int, int]


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """The options of `bench compare`."""
    p = subparsers.add_parser("compare", help="two saved results: regressions past a threshold, with noise in mind")
    p.add_argument("a", metavar="A.json", help="before: saved by bench, or by pytest-benchmark")
    p.add_argument("b", metavar="B.json", help="after")
    p.add_argument("--threshold", type=float, default=100 * THRESHOLD, metavar="PERCENT",
                   help="growth that counts as a regression (default 10)")
    p.add_argument("--seconds", action="store_true", help="compare seconds instead of ratios to the reference")
    p.add_argument("--json", action="store_true", help="print the verdicts as JSON")


def run(args: argparse.Namespace) -> int:
    """Print each comparison; 1 if there is a regression."""
    if not 0 < args.threshold < 1000:
        raise UsageError(f"--threshold {args.threshold:g} must be a percentage above 0")
    a, b = results.load(args.a), results.load(args.b)
    with results.intact(args.a, args.b):
        verdicts = compare(a, b, threshold=args.threshold / 100, seconds=args.seconds)
        shown = table(a, b, verdicts, args.threshold)
    bad = [v for v in verdicts if v.outcome == "regression"]
    if args.json:
        print(json.dumps([v.__dict__ | {"change": v.change._asdict()} for v in verdicts]))
    else:
        shown.show(console.output())
    return 1 if bad else 0


def compare(
    a: results.Result, b: results.Result, *, threshold: float = THRESHOLD, seconds: bool = False
) -> list[Verdict]:
    """A verdict for everything that both results measured. UserError if that is nothing."""
    before, after = series(a), series(b)
    names = [n for n in before if n in after]
    if not names:
        raise UserError("the two results have nothing in common to compare; measure the same model with both commits")
    confidence = 1 - (1 - stats.CONFIDENCE) / len(names)
    return [_verdict(n, before[n], after[n], confidence, threshold, seconds) for n in names]


def _verdict(name: str, a: Series, b: Series, confidence: float, threshold: float, seconds: bool) -> Verdict:
    relative = bool(a.base and b.base) and not seconds
    before, after = ([r.seconds, r.base] if relative and r.base else [r.seconds] for r in (a, b))
    change = stats.change(before, after, confidence=confidence)
    slower, faster = _contention(b) * _memory(a, b), _contention(a) * _memory(b, a)
    grown = change.estimate / slower > 1 + threshold and change.low / slower > 1 + threshold / 2
    shrunk = change.estimate * faster < 1 / (1 + threshold) and change.high * faster < 1 / (1 + threshold / 2)
    moved = not 1 / (1 + threshold) < change.estimate < 1 + threshold
    noisy = moved or not (1 / (1 + 2 * threshold) < change.low and change.high < 1 + 2 * threshold)
    outcome = "regression" if grown else "improvement" if shrunk else "too noisy to tell" if noisy else "no difference"
    return Verdict(name, change, outcome, relative, (len(a.seconds), len(b.seconds)))


def _memory(a: Series, b: Series) -> float:
    """By how much slower memory can have slowed b against a, at most: as if what it reads were not overlapped."""
    if not a.stream or not b.stream:
        return 1.0
    growth = float(stats.level(b.stream) / stats.level(a.stream))
    return 1 + a.share * max(growth - 1, 0.0)


def _contention(run: Series) -> float:
    """By how much others' load can have slowed a program on all cores, at most. It comes and goes: two runs under the
    same load may differ by all of it."""
    if run.load < IDLE:
        return 1.0
    return run.cores / max(run.cores - run.load, 0.25)


def series(result: results.Result) -> dict[str, Series]:
    """Everything a result measured, by name."""
    if "benchmarks" in result:
        return _pytest(result)
    if result["kind"] == "edit":
        return _edit(result)
    if result["kind"] == "kernels":
        return _kernels(result)
    raise UserError(f"a result of `bench {result['kind']}` holds nothing to compare; save `bench edit` or `kernels`")


def _edit(result: results.Result) -> dict[str, Series]:
    columns = {c["label"]: c for c in result["columns"]}
    label = "fused" if "fused" in columns else result["columns"][0]["label"]
    fused, base = columns[label], columns.get("reference") if label != "reference" else None
    load = machine.others(r["busy"] for r in fused["rounds"]) or 0.0
    cores = int(result["environment"]["cores"])
    stream = summary.passes(result)
    what = f"{result['settings']['name']} {fused['geometry']['bits']} bits, {fused['backend']}"
    read = sum(fused["step_bytes"].values()) * fused["geometry"]["steps"]
    out = {}
    for stage in (*STAGES, summary.WHOLE):
        times = summary.samples(fused, stage)
        if np.median(times) >= SHORT:
            # Loading and text read weights once; the codec and the adapter compute.
            share = 1.0 if stage in ("t5 load", "text", "text k/v") else 0.0
            if stage in ("steps", summary.WHOLE):
                share = _share(read, times, result)
            slow = summary.samples(base, stage) if base else None
            out[f"{what}: {stage}"] = Series(times, slow, stream, share, load, cores)
    return out


def _kernels(result: results.Result) -> dict[str, Series]:
    from .kernels import SGEMM, STOCK

    out = {}
    stream = summary.passes(result)
    for record in result["cases"]:
        stock = record["columns"].get(STOCK)
        load, cores = machine.others([record["busy"]]) or 0.0, int(result["environment"]["cores"])
        for label, column in record["columns"].items():
            if label not in (STOCK, SGEMM):
                times = column["seconds"]
                share = _share(column["reads"], times, result)
                base = stock["seconds"] if stock else None
                out[f"{record['case']}, {label}"] = Series(times, base, stream, share, load, cores)
    return out


def _share(read: float, times: list[float], result: results.Result) -> float:
    """Of the streaming bandwidth that reading `read` bytes in `times` uses."""
    return min(1.0, read / float(stats.level(times)) / summary.streaming(result))


def _pytest(result: results.Result) -> dict[str, Series]:
    """pytest-benchmark's JSON: fused times over the baseline of the same `case` in `extra_info`.

    Those ran one after the other, not in turn, and each within a second: a neighbour's burst would be taken for a
    change. So of each tenth of the samples, in order, the fast decile counts, and the ratio is to the baseline's level.
    """
    cases: dict[str, dict[str, list[float]]] = {}
    for each in result["benchmarks"]:
        data = each.get("stats", {}).get("data")
        if not data:
            raise UserError("the pytest-benchmark file has no samples; make it with --benchmark-save-data")
        info = each.get("extra_info", {})
        cases.setdefault(info.get("case", each["name"]), {})[info.get("column", "fused")] = _fast(data)
    out = {}
    for case, columns in cases.items():
        base = columns.get("reference")
        for label, data in columns.items():
            if label != "reference" or len(columns) == 1:
                paired = base if base and label != "reference" else None
                out[f"{case}, {label}"] = Series(data, [float(stats.level(paired))] * len(data) if paired else None)
    return out


def _fast(data: list[float]) -> list[float]:
    return [float(np.quantile(part, 0.1)) for part in np.array_split(np.asarray(data), min(10, len(data)))]


def table(a: results.Result, b: results.Result, verdicts: list[Verdict], threshold: float) -> Table:
    """A row for each comparison."""
    rows = [
        [v.name, f"{100 * (v.change.estimate - 1):+.1f} %",
         f"{100 * (v.change.low - 1):+.1f} to {100 * (v.change.high - 1):+.1f} %", f"{v.samples[0]}, {v.samples[1]}",
         v.outcome]
        for v in verdicts
    ]
    notes = [f"{label}: {describe(r['environment'])}" for label, r in (("A", a), ("B", b)) if "environment" in r]
    what = "time relative to the reference" if all(v.relative for v in verdicts) else "time"
    notes.append(f"Change of {what}, B against A; above 0 is slower. A regression grows by more than {threshold:g} %.")
    return Table("B against A", ["what", "change", "interval", "samples", "verdict"], rows, notes)
