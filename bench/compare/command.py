"""`bench compare A.json B.json`: is B slower or faster than A, or is it noise?

For CI: exit 1 on a regression, or where something could not be compared.

What is compared is each fused time over the reference's of the same rounds: machines and neighbors change seconds,
much less that ratio. Noise on a shared machine is one-sided, so of both the median of the faster half counts, of the
rounds and of the steps within each: medians of pairs moved more between runs of one commit, and missed slowdowns that
were planted. B regressed where the ratio grew by more than the threshold and the bootstrap interval of its
growth, widened for the number of comparisons (Bonferroni), lies above half the threshold.

Two things move the ratio without a change of code, since the reference computes on one core. Rounds in which other
programs kept cores busy are left out; where too few are left, all count, but a change is only believed past what those
cores are worth to a program that uses all. And memory that streamed more slowly in one run is taken off for the share
of the streaming bandwidth that the code was using. So both can make a change "too noisy to tell", and no false alarm.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from model.cli.process import say
from model.errors import UsageError, UserError

from .. import options, result_files, stats
from ..machine import hardware
from ..output.tables import Table
from ..results import PytestResult, Result
from ..stats import Interval
from .samples import PairedSamples, samples

THRESHOLD = 0.10


@dataclass(frozen=True)
class Verdict:
    """The outcome of one comparison."""

    name: str
    change: Interval  # of B over A; above 1 is slower
    outcome: str  # "regression", "improvement", "no difference", "too noisy to tell"
    relative: bool
    samples: tuple[int, int]
    left_out: tuple[int, int]  # rounds in which other programs kept cores busy
    load: tuple[float, float]  # cores that they kept busy in the others


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the options of `bench compare`."""
    p = subparsers.add_parser("compare", help="two saved results: regressions past a threshold, with noise in mind")
    p.add_argument("a", metavar="A.json", help="before: saved by bench, or by pytest-benchmark")
    p.add_argument("b", metavar="B.json", help="after: the result that is judged")
    growth = "growth that counts as a regression (default 10)"
    p.add_argument("--threshold", type=float, default=100 * THRESHOLD, metavar="PERCENT", help=growth)
    p.add_argument("--seconds", action="store_true", help="compare seconds instead of ratios to the reference")
    p.add_argument("--json", action="store_true", help="print the verdicts as JSON")


def run(args: argparse.Namespace) -> int:
    """Print each comparison. Return 1 if there is a regression, or something that only one of the results measured."""
    if not 0 < args.threshold < 1000:
        raise UsageError(f"--threshold {args.threshold:g} must be a percentage above 0")
    a, b = result_files.load(args.a), result_files.load(args.b)
    with result_files.reports_damaged_files(args.a, args.b):
        verdicts = compare(a, b, threshold=args.threshold / 100, seconds=args.seconds)
        shown = table(a, b, verdicts, args.threshold)
        alone = [(args.a, name) for name in unmatched(a, b)] + [(args.b, name) for name in unmatched(b, a)]
    bad = [v for v in verdicts if v.outcome == "regression"]
    options.show(args, [v.__dict__ | {"change": v.change._asdict()} for v in verdicts], [shown])
    for file, name in alone:
        say("error", f"{name} is in {file} only: not compared; measure it with both commits")
    return 1 if bad or alone else 0


def unmatched(a: Result | PytestResult, b: Result | PytestResult) -> list[str]:
    """Return the names of what `a` measured and `b` did not.

    A stage that is too short to judge in one of them was measured.
    """
    there = samples(b, shortest=0)
    return [name for name in samples(a) if name not in there]


def compare(
    a: Result | PytestResult, b: Result | PytestResult, *, threshold: float = THRESHOLD, seconds: bool = False
) -> list[Verdict]:
    """Return a verdict for everything that both results measured. Raises UserError if they have nothing in common."""
    before, after = samples(a), samples(b)
    names = [n for n in before if n in after]
    if not names:
        raise UserError("the results have nothing in common; measure the same model and clip with both commits")
    confidence = 1 - (1 - stats.CONFIDENCE) / len(names)
    return [_verdict(n, before[n], after[n], confidence, threshold, seconds) for n in names]


def _verdict(
    name: str, a: PairedSamples, b: PairedSamples, confidence: float, threshold: float, seconds: bool
) -> Verdict:
    relative = bool(a.base and b.base) and not seconds
    before, after = ([r.seconds, r.base] if relative and r.base else [r.seconds] for r in (a, b))
    change = stats.change(before, after, confidence=confidence)
    # The reference computes on one core: with more of them the ratio may grow by as much.
    others = _contention(a) * _contention(b) * max(a.cores, b.cores) / min(a.cores, b.cores)
    slower, faster = others * _memory(a, b), others * _memory(b, a)
    grown = change.estimate / slower > 1 + threshold and change.low / slower > 1 + threshold / 2
    shrunk = change.estimate * faster < 1 / (1 + threshold) and change.high * faster < 1 / (1 + threshold / 2)
    moved = not 1 / (1 + threshold) < change.estimate < 1 + threshold
    noisy = moved or not (1 / (1 + 2 * threshold) < change.low and change.high < 1 + 2 * threshold)
    outcome = "regression" if grown else "improvement" if shrunk else "too noisy to tell" if noisy else "no difference"
    counts, left_out = (len(a.seconds), len(b.seconds)), (a.left_out, b.left_out)
    return Verdict(name, change, outcome, relative, counts, left_out, (a.load, b.load))


def _memory(a: PairedSamples, b: PairedSamples) -> float:
    """Return how much slower memory can have slowed b against a, at most: as if no read overlapped any computing."""
    if not a.stream or not b.stream:
        return 1.0
    growth = float(stats.level(b.stream) / stats.level(a.stream))
    return 1 + a.share * max(growth - 1, 0.0)


def _contention(run: PairedSamples) -> float:
    """Return how much other programs' load can have moved the ratio, either way: its cost to a program on all cores.

    It comes and goes: two runs under the same load may differ by all of it.
    """
    if run.load < hardware.MIN_BUSY_CORES:
        return 1.0
    return run.cores / max(run.cores - run.load, 0.25)


def table(a: Result | PytestResult, b: Result | PytestResult, verdicts: list[Verdict], threshold: float) -> Table:
    """Return a row for each comparison."""
    rows = [
        [
            v.name,
            f"{100 * (v.change.estimate - 1):+.1f} %",
            f"{100 * (v.change.low - 1):+.1f} to {100 * (v.change.high - 1):+.1f} %",
            f"{v.samples[0]}, {v.samples[1]}",
            v.outcome,
        ]
        for v in verdicts
    ]
    origins = [(label, r.environment) for label, r in (("A", a), ("B", b)) if isinstance(r, Result)]
    notes = [f"{label}: {environment.describe()}" for label, environment in origins]
    what = "time relative to the reference" if all(v.relative for v in verdicts) else "time"
    notes.append(f"Change of {what}, B against A; above 0 is slower. A regression grows by more than {threshold:g} %.")
    for n, label in enumerate("AB"):
        if dropped := max(v.left_out[n] for v in verdicts):
            notes.append(f"{label}: {dropped} rounds left out, in which other programs kept cores busy.")
        if (load := max(v.load[n] for v in verdicts)) >= hardware.MIN_BUSY_CORES:
            notes.append(f"{label}: other programs kept {load:.1f} cores busy, which may explain a change.")
    cores = [environment.cores for _, environment in origins]
    if len(set(cores)) > 1:
        notes.append(f"A had {cores[0]} cores, B {cores[1]}: only what that cannot explain is a change.")
    elif any(v.outcome == "too noisy to tell" for v in verdicts):
        notes.append("Too noisy to tell: measure both again, with nothing else running and more rounds.")
    return Table("B against A", ["what", "change", "interval", "samples", "verdict"], rows, notes)
