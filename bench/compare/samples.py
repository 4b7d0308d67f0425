"""What `bench compare` compares: the samples of each thing that a saved result measured, and what the machine did
meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.config import FRAME_RATE
from model.errors import UserError

from .. import results, stats
from ..edit import summary
from ..edit.session import STAGES
from ..machine import hardware as machine

IDLE = 0.25
"""Cores that others may use before it counts: ticks, and this program's own bookkeeping in other processes."""
ENOUGH = 5
"""Rounds without others from which those with others are not needed."""
SHORT = 2e-3
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
    left_out: int = 0  # rounds in which others kept cores busy


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
    kept = _quiet([c for c in (fused, base) if c])
    load = machine.others(fused["rounds"][n]["busy"] for n in kept) or 0.0
    cores = int(result["environment"]["cores"])
    stream = summary.passes(result)
    g = fused["geometry"]
    clip = f"{g['frames'] / FRAME_RATE:g} s" + f" x {g['batch']}" * (g["batch"] > 1)
    what = f"{result['settings']['name']} {g['bits']} bits, {clip}, {fused['backend']}"
    read = sum(fused["step_bytes"].values())
    out = {}
    for stage in (*STAGES, summary.WHOLE):
        if np.median(summary.samples(fused, stage)) >= SHORT:
            times, slow = ([_samples(c, stage)[n] for n in kept] if c else None for c in (fused, base))
            assert times is not None
            # Loading and text read weights once; the codec and the adapter compute.
            share = 1.0 if stage in ("t5 load", "text", "text k/v") else 0.0
            if stage in ("steps", summary.WHOLE):
                share = _share(read * (1 if stage == "steps" else fused["geometry"]["steps"]), times, result)
            out[f"{what}: {stage}"] = Series(times, slow, stream, share, load, cores, len(fused["rounds"]) - len(kept))
    return out


def _quiet(columns: list[dict[str, Any]]) -> list[int]:
    """The rounds in which others left the machine alone, if they are enough; else all."""
    loads = [[machine.others([r["busy"]]) or 0.0 for r in c["rounds"]] for c in columns]
    rounds = range(len(loads[0]))
    quiet = [n for n in rounds if all(column[n] < IDLE for column in loads)]
    return quiet if len(quiet) >= min(ENOUGH, len(rounds)) else list(rounds)


def _samples(column: dict[str, Any], stage: str) -> list[float]:
    """Seconds in each round; of the steps, each round's level of one."""
    if stage == "steps":
        return [float(stats.level(r["step_seconds"])) for r in column["rounds"]]
    return summary.samples(column, stage)


def _kernels(result: results.Result) -> dict[str, Series]:
    from ..kernels.command import SGEMM, STOCK

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
    """pytest-benchmark's JSON. Ours has the reference's times of the same rounds in `extra_info`; without them seconds
    are compared. The samples of a case that was measured several times are put together."""
    out: dict[str, Series] = {}
    for each in result["benchmarks"]:
        data = each.get("stats", {}).get("data")
        if not data:
            raise UserError("the pytest-benchmark file has no samples; make it with --benchmark-save-data")
        info = each.get("extra_info", {})
        if info.get("column") != "reference":
            name = f"{info['case']}, {info['column']}" if "case" in info and "column" in info else each["name"]
            earlier = out.get(name, Series([], []))
            base = info.get("reference_seconds")
            data = [seconds / info.get("loops", 1) for seconds in data]
            out[name] = Series(earlier.seconds + data, [*(earlier.base or []), *base] if base else None)
    return out
