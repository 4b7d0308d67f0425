"""The table of `bench peers`."""

from __future__ import annotations

from collections.abc import Sequence

from .. import stats, tables
from ..records import OURS, PeerRound, PeersResult


def samples(rounds: Sequence[PeerRound]) -> list[float]:
    """Return the median seconds of a step, each round."""
    return [stats.summarize(r.step_seconds).median for r in rounds]


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
