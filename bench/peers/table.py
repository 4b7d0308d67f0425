"""The table of `bench peers`."""

from __future__ import annotations

from collections.abc import Sequence

from .. import stats
from ..output import tables
from ..results import OURS, PeerRound, PeersResult, ProductColumn


def samples(rounds: Sequence[PeerRound]) -> list[float]:
    """Return the median seconds of a step in each round."""
    return [stats.summarize(r.step_seconds).median for r in rounds]


def tables_of(result: PeersResult) -> list[tables.Table]:
    """Return the table of the steps, and that of the products where some were measured."""
    return [table(result), *([products_table(result)] if result.products else [])]


def product_samples(column: ProductColumn, rows: str) -> list[float]:
    """Return the median seconds of a product of so many rows in each round."""
    return [stats.summarize(r[rows]).median for r in column.rounds]


def products_table(result: PeersResult) -> tables.Table:
    """Return a row for each column and number of rows."""
    n, k = result.settings.product
    ours, rows = result.products[0], []
    cold = "so that each is read from memory" if ours.copies * n * k / 2 > result.environment.cache else "in the cache"
    for m in ours.rounds[0]:
        own = product_samples(ours, m)
        for column in result.products:
            times = product_samples(column, m)
            note = column.ran_on or ", ".join(f"{name} {v}" for name, v in column.versions.items())
            ratio = "" if column is ours else tables.ratio(stats.paired_ratio(times, own), len(times))
            label = f"{m} {'row' if m == '1' else 'rows'}, {column.label}"
            time = tables.measured(stats.summarize(times))
            rows.append([label, note, time, ratio, f"{column.errors[m]:.1e}"])
    notes = [
        f"{result.environment.describe()}; {result.created[:10]}",
        f"4 bits, groups of 64; {ours.copies} copies of the matrix in turn, {cold}; "
        f"medians of {len(ours.rounds)} rounds in turn. onnxruntime: MatMulNBits with activations rounded as named; "
        "ggml: Q4_0, activations rounded to int8. "
        "Error: relative L2 distance from the float64 product.",
    ]
    headers = ["product", "ran on", "time", "time / ours", "error"]
    return tables.Table(f"peers: a matrix of {n} x {k}", headers, rows, notes)


def table(result: PeersResult) -> tables.Table:
    """Return a row for each peer."""
    s, rows = result.settings, []
    first = result.columns[0]
    for column in result.columns:
        times = samples(column.rounds)
        note = column.rounds[0].backend or ", ".join(f"{k} {v}" for k, v in column.versions.items())
        ratio = "" if column is first else tables.ratio(stats.paired_ratio(times, samples(column.beside)), len(times))
        rows.append([column.label, note, tables.measured(stats.summarize(times)), ratio])
    notes = [
        f"{result.environment.describe()}; {result.created[:10]}",
        f"{s.rows} rows, cache of {s.start} positions on, {s.text} text tokens; medians of {s.repeat} "
        f"rounds of {s.steps} steps in turn with ours. The peers have no adapter: compare them with the first row, "
        "which leaves it out too. torch computes with unquantized weights.",
    ]
    notes += [f"Left out: {label}: {reason}." for label, reason in result.left_out.items()]
    headers = ["decode step", "ran on", "time", f"time / {OURS}"]
    return tables.Table(f"peers: MusicGen {s.name}", headers, rows, notes)
