"""Samples that `bench compare` compares: of each thing that a saved result measured, and of the machine meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.config import FRAME_RATE
from model.errors import UserError
from model.stages import STAGES

from .. import stats, summary
from ..machine import hardware
from ..results import SGEMM, STOCK, EditColumn, EditResult, KernelsResult, PytestResult, Result

MIN_QUIET_ROUNDS = 5
"""Rounds without other programs' load that suffice, so that rounds with such load are left out."""
MIN_SECONDS = 2e-3
"""Seconds below which a stage of an edit is not judged: a timer tick or a page fault would decide."""


@dataclass(frozen=True)
class PairedSamples:
    """Samples of one thing measured, the reference's of the same rounds, and the machine's state in each round."""

    seconds: list[float]
    base: list[float] | None = None
    stream: list[float] | None = None  # seconds of the streaming passes of the whole run
    share: float = 0.0  # of the streaming bandwidth that it used, at most 1
    load: float = 0.0  # cores that others kept busy
    cores: int = 1
    left_out: int = 0  # rounds in which others kept cores busy


def samples(result: Result | PytestResult, shortest: float = MIN_SECONDS) -> dict[str, PairedSamples]:
    """Return the samples of everything that a result measured, by name. Raises UserError if there are none.

    Of an edit, stages shorter than `shortest` seconds are left out.
    """
    if isinstance(result, PytestResult):
        return _pytest(result)
    if isinstance(result, EditResult):
        return _edit(result, shortest)
    if isinstance(result, KernelsResult):
        return _kernels(result)
    raise UserError(
        f"a result of `bench {result.kind}` holds nothing to compare; save one of `bench edit` or `bench kernels`"
    )


def _edit(result: EditResult, shortest: float) -> dict[str, PairedSamples]:
    columns = {c.label: c for c in result.columns}
    fused = columns.get("fused", result.columns[0])
    base = columns.get("reference") if fused.label != "reference" else None
    kept = _quiet([c for c in (fused, base) if c])
    load = hardware.others(fused.rounds[n].busy for n in kept) or 0.0
    stream = summary.passes(result)
    g = fused.geometry
    clip = f"{g.frames / FRAME_RATE:g} s" + f" x {g.batch}" * (g.batch > 1)
    what = f"{result.settings.name} {g.bits} bits, {clip}, {fused.backend}"
    out = {}
    for stage in (*STAGES, summary.WHOLE):
        if np.median(summary.samples(fused, stage)) >= shortest:
            times, slow = ([_by_round(c, stage)[n] for n in kept] if c else None for c in (fused, base))
            assert times is not None
            # Loading and text read weights once; the codec and the adapter compute.
            share = 1.0 if stage in ("t5 load", "text", "text k/v") else 0.0
            if stage in ("steps", summary.WHOLE):
                share = _share(summary.step_read(fused) * (1 if stage == "steps" else g.steps), times, result)
            left_out = len(fused.rounds) - len(kept)
            out[f"{what}: {stage}"] = PairedSamples(
                times, slow, stream, share, load, result.environment.cores, left_out
            )
    return out


def _quiet(columns: list[EditColumn]) -> list[int]:
    """Return the rounds in which other programs left the machine alone, if they are enough; else all."""
    loads = [[hardware.others([r.busy]) or 0.0 for r in c.rounds] for c in columns]
    rounds = range(len(loads[0]))
    quiet = [n for n in rounds if all(column[n] < hardware.MIN_BUSY_CORES for column in loads)]
    return quiet if len(quiet) >= min(MIN_QUIET_ROUNDS, len(rounds)) else list(rounds)


def _by_round(column: EditColumn, stage: str) -> list[float]:
    """Return the seconds in each round; of the steps, the level of each round's steps."""
    if stage == "steps":
        return [float(stats.level(r.step_seconds)) for r in column.rounds]
    return summary.samples(column, stage)


def _kernels(result: KernelsResult) -> dict[str, PairedSamples]:
    out = {}
    stream = summary.passes(result)
    for case in result.cases:
        stock = case.columns.get(STOCK)
        load, base = hardware.others([case.busy]) or 0.0, stock.seconds if stock else None
        for label, column in case.columns.items():
            if label not in (STOCK, SGEMM):
                share = _share(column.reads, column.seconds, result)
                found = PairedSamples(column.seconds, base, stream, share, load, result.environment.cores)
                out[f"{case.case}, {label}"] = found
    return out


def _share(read: float, times: list[float], result: EditResult | KernelsResult) -> float:
    """Return the share of the streaming bandwidth that reading `read` bytes in `times` uses."""
    return min(1.0, read / float(stats.level(times)) / summary.streaming(result))


def _pytest(result: PytestResult) -> dict[str, PairedSamples]:
    """Join the samples of a case that was measured several times.

    Ours have the reference's times of the same rounds in `extra_info`; without them seconds are compared.
    """
    out: dict[str, PairedSamples] = {}
    for each in result.benchmarks:
        info = each.extra_info
        if not each.stats.data:
            raise UserError("the pytest-benchmark file has no samples; make it with --benchmark-save-data")
        if info.get("column") != "reference":
            name = f"{info['case']}, {info['column']}" if "case" in info and "column" in info else each.name
            earlier = out.get(name, PairedSamples([], []))
            base = info.get("reference_seconds")
            data = [seconds / info.get("loops", 1) for seconds in each.stats.data]
            out[name] = PairedSamples(earlier.seconds + data, [*(earlier.base or []), *base] if base else None)
    return out
