"""`bench compare A.json B.json`: is B slower or faster than A, or is it noise? For CI: exit 1 on a regression.

What is compared is each fused time as a ratio to the reference's of the same run (of the same round, where rounds were
interleaved), and as a ratio to a streaming pass over memory in that round: machines and neighbours change seconds, much
less those ratios. The reference alone would not do: plain MLX on one core computes, the fused kernels wait for memory,
and a machine's memory is slower for a minute at a time. B regressed where both ratios grew by more than the threshold
and the bootstrap interval of their growth, widened for the number of comparisons (Bonferroni), lies above half the
threshold. Where other programs kept cores busy during B, what they can have cost a program that uses
all cores is taken off first: on a busy machine a small regression is "too noisy to tell", never a false alarm.
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
CAREFUL = ("no difference", "too noisy to tell", "improvement", "regression")
IDLE = 0.1
"""Cores that others may use before it counts: ticks, and this program's own bookkeeping in other processes."""
SHORT = 1e-3
"""Seconds under which a stage of an edit is not judged: a timer tick or a page fault would decide."""


@dataclass(frozen=True)
class Series:
    """Samples of one thing measured: seconds, and their ratios to each yardstick of the same rounds."""

    seconds: list[float]
    ratios: list[list[float]]
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
    """The most careful of the verdicts by each yardstick that both runs have: something changed if all say so."""
    pairs = list(zip(a.ratios, b.ratios))
    relative = bool(pairs) and not seconds
    found = [_judge(*pair, _contention(a), _contention(b), confidence, threshold)
             for pair in (pairs if relative else [(a.seconds, b.seconds)])]
    outcome, change = min(found, key=lambda f: (CAREFUL.index(f[0]), abs(np.log(f[1].estimate))))
    if {"regression", "improvement"} <= {o for o, _ in found}:
        outcome = "too noisy to tell"
    return Verdict(name, change, outcome, relative, (len(a.seconds), len(b.seconds)))


def _judge(
    before: list[float], after: list[float], faster: float, slower: float, confidence: float, threshold: float
) -> tuple[str, Interval]:
    change = stats.change(before, after, confidence=confidence)
    grown = change.estimate / slower > 1 + threshold and change.low / slower > 1 + threshold / 2
    shrunk = change.estimate * faster < 1 / (1 + threshold) and change.high * faster < 1 / (1 + threshold / 2)
    moved = not 1 / (1 + threshold) < change.estimate < 1 + threshold
    noisy = moved or not (1 / (1 + 2 * threshold) < change.low and change.high < 1 + 2 * threshold)
    outcome = "regression" if grown else "improvement" if shrunk else "too noisy to tell" if noisy else "no difference"
    return outcome, change


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


def _ratios(times: list[float], *yardsticks: list[float] | None) -> list[list[float]]:
    """Ratios pair by pair to each yardstick that there is."""
    return [[x / y for x, y in zip(times, base)] for base in yardsticks if base]


def _edit(result: results.Result) -> dict[str, Series]:
    columns = {c["label"]: c for c in result["columns"]}
    label = "fused" if "fused" in columns else result["columns"][0]["label"]
    fused, base = columns[label], columns.get("reference") if label != "reference" else None
    load = machine.others(r["busy"] for r in fused["rounds"]) or 0.0
    cores = int(result["environment"]["cores"])
    stream = [float(np.median(passes)) for passes in result["bandwidth"]["rounds"]] if base else None
    what = f"{result['settings']['name']} {fused['geometry']['bits']} bits, {fused['backend']}"
    out = {}
    for stage in (*STAGES, summary.WHOLE):
        times = summary.samples(fused, stage)
        if np.median(times) >= SHORT:
            ratios = _ratios(times, summary.samples(base, stage) if base else None, stream)
            out[f"{what}: {stage}"] = Series(times, ratios, load, cores)
    return out


def _kernels(result: results.Result) -> dict[str, Series]:
    from .kernels import SGEMM, STOCK

    out = {}
    for record in result["cases"]:
        stock = record["columns"].get(STOCK)
        load, cores = machine.others([record["busy"]]) or 0.0, int(result["environment"]["cores"])
        for label, column in record["columns"].items():
            if label not in (STOCK, SGEMM):
                ratios = _ratios(column["seconds"], stock["seconds"] if stock else None, record["stream"])
                out[f"{record['case']}, {label}"] = Series(column["seconds"], ratios, load, cores)
    return out


def _pytest(result: results.Result) -> dict[str, Series]:
    """pytest-benchmark's JSON: fused times over the baseline of the same `case` in `extra_info`.

    Those ran one after the other, not in turn, and each within a second: a neighbour's burst would be taken for a
    change. So of each tenth of the samples, in order, the fast decile counts, and the ratio is to the baseline's.
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
                middle = float(np.median(base)) if base and label != "reference" else None
                out[f"{case}, {label}"] = Series(data, _ratios(data, [middle] * len(data) if middle else None))
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
