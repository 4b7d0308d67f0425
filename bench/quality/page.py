"""The page of `bench quality`: its tables, shaped like the published card's; its sentences are in page.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from csv import DictReader
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import kernels
from model.candidates.clap import CHECKPOINT
from model.config import SAMPLE_RATE
from model.evaluation.measures import notes
from model.evaluation.quality import fad
from model.evaluation.quality.instructions import Instruction
from model.evaluation.quality.measure import Key, QualityClip, QualitySettings, Row
from model.evaluation.variant import Variant

from ..output.pages import Page, make, table
from ..output.tables import number
from ..stats import MIN_UNITS, differences, mean_interval, unit_means
from .plot import picture


class Measure(NamedTuple):
    """A measure's direction (which way is better; None: neither), its decimals, and its meaning."""

    better: str | None
    digits: int
    what: str

    @property
    def title(self) -> str:
        """The measure's name with unit and direction, for a plot."""
        unit = ", dB" if self.what.startswith("dB") else ""
        return unit + (f" ({self.better} is better)" if self.better else "")


with Path(__file__).with_name("measures.csv").open(encoding="utf-8", newline="") as _file:
    MEASURES = {m["measure"]: Measure(m["better"] or None, int(m["digits"]), m["what"]) for m in DictReader(_file)}
AXES = {0: "clips", 1: "instructions", 2: "seeds"}


def unit_axis(keys: Sequence[Key]) -> int | None:
    """Return the axis of the units to resample: clips if there are enough, else instructions, else seeds; or None.

    Clips come first because a clip's instructions share it.
    """
    return next((axis for axis in AXES if len({key[axis] for key in keys}) >= MIN_UNITS), None)


def page(
    variants: Sequence[Variant],
    rows: Sequence[Row],
    clips: Sequence[QualityClip],
    instructions: Sequence[Instruction],
    settings: QualitySettings,
    clap: str | None,
    why_not: str,
) -> Page:
    """Fill in the page. `clap`: the checkpoint, or None and the reason as `why_not`."""
    keys = [key for row in rows for values in row.values.values() for key in values if key[2] != "-"]
    axis = unit_axis(keys)
    present = [m for m in MEASURES if any(m in row.values for row in rows)]
    scores = [m for m in present if not m.endswith(" change") and m != "SI-SDRi"]
    no_fad = fad.why_not(rows, len(variants))
    return make(
        "quality", variants, partial(picture, rows, {m: m + MEASURES[m].title for m in present}, axis, len(variants)),
        clips=clips, instructions=instructions, settings=settings, clap=clap, why_not=why_not,
        checkpoint=CHECKPOINT, seconds=sum(len(c.samples) for c in clips) / SAMPLE_RATE, present=present,
        measures=MEASURES, units=AXES[axis] if axis is not None else None, min_units=MIN_UNITS,
        weights=[f"{v.label}: {v.bundle.path} on {kernels.load(v.backend).name}, {number(v.megabytes, 2)} MB"
                 for v in variants],
        labels=[row.label for row in rows], asked=[*((i.short, i.text) for i in instructions), ("mean", None)],
        changes=lambda measure, text: [_with_change(row, measure, text) for row in rows],
        scores=lambda measure, text: [_mean(_values(row, measure, text)) for row in rows],
        removals=[i for i in instructions if i.verb == "remove"],
        means=_means(rows, present, axis), paired=_paired(rows[-len(variants) :], scores, axis),
        fad=fad.TITLE, no_fad=no_fad, notes_missing=notes.missing(), dimensions=fad.dimensions(rows),
        distances=None if no_fad else fad.distances(rows, len(variants)),
    )  # fmt: skip


def _table(first: str, rows: Sequence[Row] | Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return table([first, *(row.label if isinstance(row, Row) else row for row in rows)], lines)


def _values(row: Row, measure: str, instruction: str | None = None) -> dict[Key, float]:
    found = row.values.get(measure, {})
    return {k: v for k, v in found.items() if not math.isnan(v) and instruction in (None, k[1])}


def _mean(values: dict[Key, float]) -> float | None:
    return float(np.mean(list(values.values()))) if values else None


def _with_change(row: Row, measure: str, text: str | None) -> str:
    score, change = (_mean(_values(row, name, text)) for name in (measure, f"{measure} change"))
    return "-" if score is None else f"{number(score, 3, signed=True)} ({number(change, 3, signed=True)})"


def _means(rows: Sequence[Row], present: Sequence[str], axis: int | None) -> str:
    def cell(row: Row, measure: str) -> str:
        values, digits = _values(row, measure), MEASURES[measure].digits
        mean, spread = _interval(values, axis, digits), seed_spread(values)
        return mean if spread is None else f"{mean} ± {number(spread, digits)}"

    return _table("", present, [[row.label, *(cell(row, measure) for measure in present)] for row in rows])


def _paired(rows: Sequence[Row], present: Sequence[str], axis: int | None) -> str:
    def cell(row: Row, measure: str) -> str:
        found = differences(_values(row, measure), _values(rows[0], measure))
        return _interval(found, axis, MEASURES[measure].digits, signed=True)

    lines = [[row.label, *(cell(row, measure) for measure in present)] for row in rows[1:]]
    return _table(f"minus {rows[0].label}", present, lines)


def _interval(values: dict[Key, float], axis: int | None, digits: int, *, signed: bool = False) -> str:
    found = mean_interval(unit_means(values, axis)) if axis is not None and values else None
    mean = number(_mean(values), digits, signed=signed)
    if found is None:
        return mean
    low, high = (number(end, digits, signed=signed) for end in (found.low, found.high))
    return f"{mean} [{low}, {high}]"


def seed_spread(values: dict[Key, float]) -> float | None:
    """Return the standard deviation between seeds of one clip and instruction, as a root mean square over all.

    None with one seed.
    """
    cells: dict[tuple[str, str], list[float]] = {}
    for (clip, instruction, _), value in values.items():
        cells.setdefault((clip, instruction), []).append(value)
    variances = [np.var(each, ddof=1) for each in cells.values() if len(each) > 1 and np.isfinite(each).all()]
    return float(np.sqrt(np.mean(variances))) if variances else None
