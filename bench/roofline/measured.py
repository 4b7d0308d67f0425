"""Saved runs beside the bound of the bandwidth measured in the same run."""

from __future__ import annotations

from dataclasses import dataclass

from .. import stats, summary
from ..output.tables import Table, seconds
from ..results import EditResult


@dataclass(frozen=True)
class Measured:
    """One column of a saved run: milliseconds of its step, and the least that its bandwidth allows."""

    model: str
    column: str
    ms_step: float
    least: float
    where: str


def measured(result: EditResult) -> list[Measured]:
    """Return the step of each column of a saved run."""
    return [
        Measured(
            model=f"{result.settings.name} {c.geometry.bits} bits",
            column=summary.name(c),
            ms_step=1e3 * stats.summarize(summary.step_samples(c)).median,
            least=1e3 * summary.step_read(c) / summary.streaming(result),
            where=f"{result.environment.describe()}; {result.created[:10]}",
        )
        for c in result.columns
    ]


def measured_table(near: list[Measured]) -> Table:
    """Return a row for each column."""
    rows = [
        [f"{m.model}, {m.column}", seconds(m.ms_step / 1e3), seconds(m.least / 1e3), f"{m.ms_step / m.least:.3g}x"]
        for m in near
    ]
    notes = [f"{model}: {where}" for model, where in dict.fromkeys((m.model, m.where) for m in near)]
    return Table("measured, against the bound", ["run", "a step", "least", "apart"], rows, notes)
