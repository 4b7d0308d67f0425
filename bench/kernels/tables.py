"""The tables of `bench kernels`, and the check that finds results too wrong to be timed."""

from __future__ import annotations

from .. import stats, summary
from ..output import tables
from ..results import SGEMM, STOCK, KernelCase, KernelsResult

MAX_ERROR = 0.02
"""Relative error beyond any rounding: bfloat16 keeps 8 bits, and int8 activations are off by 0.006."""


def wrong(result: KernelsResult) -> list[tuple[str, str, float]]:
    """Return case, column and error of each result that is too far from the oracle to be rounding."""
    found = []
    for case in result.cases:
        errors = {label: column.error for label, column in case.columns.items()}
        if case.traffic is not None:
            errors["interpreter"] = case.traffic.error
        values = [(label, float(error["relative_l2"])) for label, error in errors.items()]
        found += [(case.case, label, value) for label, value in values if not value < MAX_ERROR]
    return found


def tables_of(result: KernelsResult) -> list[tables.Table]:
    """Return the table of times, and that of traffic where it was counted."""
    counted = any(case.traffic is not None for case in result.cases)
    return [table(result), *([traffic_table(result)] if counted else [])]


def table(result: KernelsResult) -> tables.Table:
    """Return a row for each case and backend.

    It has the time, bytes over time, the share of streaming bandwidth, the error, and how many times faster than stock
    it is.
    """
    rows = []
    streaming = summary.streaming(result)
    for case in result.cases:
        stock = case.columns.get(STOCK)
        for label, column in case.columns.items():
            s = stats.summarize(column.seconds)
            rate = column.reads / s.median
            faster = stats.paired_ratio(stock.seconds, column.seconds) if stock else None
            rows.append(
                [
                    case.case if label == STOCK else "",
                    label,
                    tables.measured(s),
                    f"{rate / 1e9:.3g}",
                    f"{100 * rate / streaming:.0f} %",
                    f"{case.flops / s.median / 1e9:.3g}",
                    f"{float(column.error['relative_l2']):.1e}",
                    "" if label == STOCK or faster is None else tables.ratio(faster, s.n),
                ]
            )
    notes = [
        f"{result.environment.describe()}; {result.created[:10]}",
        f"Medians, ± half the quartile distance; cold weights; columns in turn; streaming "
        f"{summary.streaming_range(result)}; {result.bandwidth.method}. "
        "GB/s counts what the call must read. Error: relative L2 distance from the float64 oracle. Stock MLX is the "
        "reference: plain MLX in the dtype that serves it best here.",
    ]
    notes += [f"Left out: {label}: {reason}." for label, reason in result.left_out.items()]
    notes += [note for case in result.cases if SGEMM in case.columns for note in against_sgemm(case)]
    headers = ["case", "backend", "time", "GB/s", "of streaming", "GFLOP/s", "error", "faster than stock"]
    return tables.Table(f"kernels at the shapes of {result.settings.name}", headers, rows, notes)


def against_sgemm(case: KernelCase) -> list[str]:
    """Say what share of sgemm's speed each fused column reached in the same rounds."""
    yardstick = case.columns[SGEMM].seconds
    fused = {label: c.seconds for label, c in case.columns.items() if label not in (STOCK, SGEMM)}
    speeds = {label: stats.paired_ratio(yardstick, seconds) for label, seconds in fused.items()}
    return [
        f"{case.case}: {label} runs at {tables.ratio(speed, len(yardstick))} of the speed of {SGEMM} on the "
        "dequantized matrix, through the BLAS that the native backend calls."
        for label, speed in speeds.items()
    ]


def traffic_table(result: KernelsResult) -> tables.Table:
    """Return how often each Metal kernel asks for the bytes that it must read, as counted in the interpreter."""
    rows = []
    for case in result.cases:
        if (t := case.traffic) is not None:
            times = ", ".join(f"{name} {b['loaded'] / max(b['needed'], 1):.3g}x" for name, b in t.buffers.items())
            rows.append(
                [
                    case.case,
                    str(t.launches),
                    tables.size(t.needed),
                    f"{t.loaded / t.needed:.3g}x",
                    times,
                    f"{float(t.error['relative_l2']):.1e}",
                ]
            )
    notes = [
        "The Metal source as it is, run on this CPU in float16: accesses before any cache, no time; 1x is the least. "
        "Scales and biases are asked for by several lanes of a simdgroup at once, which a GPU serves with one read."
    ]
    headers = ["case", "launches", "must be read", "loaded", "by buffer", "error"]
    return tables.Table("traffic of the Metal kernels", headers, rows, notes)
