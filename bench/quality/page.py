"""The page of `bench quality`: tables shaped like the published card's, with intervals, and what was not measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

import kernels

from ..html_page import Page, Section, Table, number
from ..instructions import Instruction
from ..machine import hardware as machine
from ..stats import MIN_UNITS, Interval, differences, mean_interval, unit_means
from ..variants import Variant
from . import fad as quality_fad
from . import plot as quality_plot
from .clap import CHECKPOINT
from .measure import Clip, Key, Row, Settings
from .true_stems import notes_missing

MEASURES = {
    "CLAP": ("higher", 3, "cosine of the recording and the instruction"),
    "CLAP change": ("higher", 3, "CLAP of the result minus that of the input"),
    "CLAP removed": (
        "lower",
        3,
        "removals only: cosine with the name of what was to go; a stem still there keeps it high",
    ),
    "CLAP removed change": ("lower", 3, "the same, minus the input's"),
    "CLAP remains": ("higher", 3, "removals only: cosine with what should remain"),
    "CLAP remains change": ("higher", 3, "the same, minus the input's"),
    "SI-SDR": ("higher", 2, "dB, likeness to the true stems at any volume"),
    "SI-SDRi": ("higher", 2, "dB, SI-SDR minus the input's, where the input is not the answer already"),
    "log-mel to truth": ("lower", 2, "dB, mean distance of log-mel spectrograms to the true stems"),
    "nearest": (
        "higher",
        2,
        "share of only and remove edits to which the true answer is nearer (log-mel, all through the codec) than any "
        "other stem, mix without one, or the input",
    ),
    "notes F1": ("higher", 2, "F1 of the notes that basic-pitch hears, against the true answer's"),
    "onset F": ("higher", 2, "F of onsets within 50 ms of the true answer's"),
    "log-mel to input": ("-", 2, "dB, mean distance of log-mel spectrograms to the input: how much was changed at all"),
    "log-mel to reference": (
        "lower",
        2,
        "dB, mean distance of log-mel spectrograms to the first variant's result with the same seed",
    ),
}
"""Which way is better, decimals, and what it is."""
AXES = {0: "clips", 1: "instructions", 2: "seeds"}


def unit_axis(keys: Sequence[Key]) -> int | None:
    """What is resampled: clips if there are enough (instructions share a clip), else instructions, else seeds."""
    for axis in AXES:
        if len({key[axis] for key in keys}) >= MIN_UNITS:
            return axis
    return None


def page(
    variants: Sequence[Variant],
    rows: Sequence[Row],
    clips: Sequence[Clip],
    instructions: Sequence[Instruction],
    settings: Settings,
    clap: str | None,
    why_not: str,
) -> Page:
    """`clap`: the checkpoint, or None and `why_not`."""
    keys = [key for row in rows for values in row.values.values() for key in values if key[2] != "-"]
    axis = unit_axis(keys)
    present = [m for m in MEASURES if any(m in row.values for row in rows)]
    out = Page("quality", f"Quality: {', '.join(v.label for v in variants)}")
    out.sections.append(
        Section("What was compared", _intro(variants, clips, instructions, settings, clap, why_not, axis))
    )
    if "CLAP" in present:
        text = (
            "The cosine between the recording's embedding and the instruction's, and in brackets the change from the "
            f"untouched input's. Mean over clips and seeds; higher is better. Model: {clap}."
        )
        out.sections.append(Section("CLAP score by instruction", text, _card(rows, instructions)))
    removals = [i for i in instructions if i.verb == "remove"]
    if "CLAP" in present and removals:
        text = (
            'Text similarity alone rewards a stem that is still there: a text that says "drums" resembles a recording '
            "with drums. So a removal is scored against the instruction, against the name of what was to go (lower is "
            "better), "
            "and against what should remain (higher is better); in brackets the change from the input."
        )
        if "CLAP remains" not in present:
            text += " What should remain is not known: give `remains` in the instructions file, or --stems."
        out.sections.append(Section("Removals", text, _removals(rows, removals)))
    out.sections.append(Section("Means", _means_text(present, axis), _means(rows, present, axis)))
    if len(variants) > 1:
        scores = [m for m in present if not m.endswith(" change") and m != "SI-SDRi"]
        text = (
            f"Each variant minus {variants[0].label}, on the same clips, instructions and seeds; in brackets a 95 % "
            f"bootstrap "
            "interval. An interval that holds 0 is no evidence of a difference. Equal results give exactly 0. Changes "
            "from the input differ by as much as the scores themselves, so they are left out."
        )
        out.sections.append(Section("Paired differences", text, _paired(rows[-len(variants) :], scores, axis)))
    for measure in present:
        if measure in ("CLAP", "CLAP change") or measure.startswith(("CLAP removed", "CLAP remains")):
            continue
        way, digits, what = MEASURES[measure]
        text = f"In {what}" + ("." if way == "-" else f"; {way} is better.")
        out.sections.append(
            Section(f"{measure} by instruction", text, _by_instruction(rows, instructions, measure, digits))
        )
    out.sections.append(_plot(rows, present, axis, len(variants)))
    no_fad = quality_fad.why_not(rows, len(variants))
    if no_fad is None:
        out.sections.append(quality_fad.section(rows, len(variants)))
    out.sections.append(Section("Not measured", _limits(variants, present, clap, why_not, no_fad)))
    return out


def _intro(
    variants: Sequence[Variant],
    clips: Sequence[Clip],
    instructions: Sequence[Instruction],
    settings: Settings,
    clap: str | None,
    why_not: str,
    axis: int | None,
) -> str:
    seconds = sum(len(c.samples) for c in clips) / 32_000
    how = "greedily" if settings.greedy else f"sampling (temperature {settings.temperature:g}, top-k {settings.top_k})"
    resampled = (
        f"Intervals resample {AXES[axis]}." if axis is not None else f"No intervals: nothing has {MIN_UNITS} units."
    )
    return "\n\n".join(
        [
            f"{len(clips)} clip(s), {seconds:.1f} s in all; {len(instructions)} instruction(s); seeds "
            f"{', '.join(map(str, settings.seeds))}; generated {how}, guidance {settings.guidance:g}. {resampled}",
            "Rows: the input untouched; the input through the codec and back, with no model between (what the codec "
            "alone "
            "costs); with stems, the true answer, and the true answer through the codec: the ceiling of any edit.",
            f"CLAP: {clap}." if clap else f"CLAP: not measured ({why_not}).",
            "; ".join(
                f"{v.label}: {v.bundle.path} on {kernels.load(v.backend).name}, {number(v.megabytes, 2)} MB"
                for v in variants
            )
            + ".",
            f"Machine: {machine.processor()}, {machine.cores()} cores; MLX {version('mlx')}.",
        ]
    )


def _plot(rows: Sequence[Row], present: Sequence[str], axis: int | None, variants: int) -> Section:
    titles = {}
    for measure in present:
        way, _, what = MEASURES[measure]
        unit = ", dB" if what.startswith("dB") else ""
        titles[measure] = f"{measure}{unit}" + (f" ({way} is better)" if way != "-" else "")
    image = quality_plot.picture(rows, titles, axis, variants)
    if image is None:
        return Section("Plot", "None: matplotlib is not installed; pip install 'instruct-musicgen-mlx[bench]'.")
    text = "The means above, lines their intervals. Blue: variants; grey: what frames them. Infinite ones have no dot."
    return Section("Plot", text, picture=("quality.png", image, "mean and interval of each measure, by row"))


def _values(row: Row, measure: str, instruction: str | None = None) -> dict[Key, float]:
    found = row.values.get(measure, {})
    return {k: v for k, v in found.items() if not math.isnan(v) and instruction in (None, k[1])}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _card(rows: Sequence[Row], instructions: Sequence[Instruction]) -> Table:
    lines = []
    for instruction in (*instructions, None):
        text = None if instruction is None else instruction.text
        cells = [_with_change(row, "CLAP", text) for row in rows]
        lines.append(["mean" if instruction is None else instruction.short, *cells])
    return Table(["instruction", *(row.label for row in rows)], lines)


def _with_change(row: Row, measure: str, text: str | None) -> str:
    score = _mean(list(_values(row, measure, text).values()))
    change = _mean(list(_values(row, f"{measure} change", text).values()))
    return "-" if score is None else f"{number(score, 3, signed=True)} ({number(change, 3, signed=True)})"


def _removals(rows: Sequence[Row], removals: Sequence[Instruction]) -> Table:
    lines = []
    for instruction in removals:
        for measure, what in (
            ("CLAP", "the instruction"),
            ("CLAP removed", "what was to go"),
            ("CLAP remains", "what remains"),
        ):
            cells = [_with_change(row, measure, instruction.text) for row in rows]
            lines.append([f"{instruction.short} against {what}", *cells])
    return Table(["removal", *(row.label for row in rows)], lines)


def _means_text(present: Sequence[str], axis: int | None) -> str:
    legend = "; ".join(
        f"{m}: {MEASURES[m][2]}" + (f" ({MEASURES[m][0]} is better)" if MEASURES[m][0] != "-" else "") for m in present
    )
    intervals = f"in brackets a 95 % bootstrap interval over {AXES[axis]}; " if axis is not None else ""
    return f"Mean over all clips, instructions and seeds; {intervals}then ± the spread from seed to seed. {legend}."


def _means(rows: Sequence[Row], present: Sequence[str], axis: int | None) -> Table:
    lines = []
    for row in rows:
        cells = []
        for measure in present:
            values = _values(row, measure)
            cell = _interval(values, axis, MEASURES[measure][1], signed=False)
            spread = seed_spread(values)
            cells.append(cell if spread is None else f"{cell} ± {number(spread, MEASURES[measure][1])}")
        lines.append([row.label, *cells])
    return Table(["", *present], lines)


def _paired(rows: Sequence[Row], present: Sequence[str], axis: int | None) -> Table:
    lines = []
    for row in rows[1:]:
        cells = []
        for measure in present:
            found = differences(_values(row, measure), _values(rows[0], measure))
            cells.append(_interval(found, axis, MEASURES[measure][1], signed=True))
        lines.append([row.label, *cells])
    return Table([f"minus {rows[0].label}", *present], lines)


def _interval(values: dict[Key, float], axis: int | None, digits: int, *, signed: bool) -> str:
    mean = _mean(list(values.values()))
    if mean is None:
        return "-"
    found: Interval | None = mean_interval(unit_means(values, axis)) if axis is not None else None
    if found is None:
        return number(mean, digits, signed=signed)
    low, high = number(found.low, digits, signed=signed), number(found.high, digits, signed=signed)
    return f"{number(mean, digits, signed=signed)} [{low}, {high}]"


def seed_spread(values: dict[Key, float]) -> float | None:
    """Standard deviation between seeds of one clip and instruction (root mean square over all); None with one seed."""
    cells: dict[tuple[str, str], list[float]] = {}
    for (clip, instruction, _), value in values.items():
        cells.setdefault((clip, instruction), []).append(value)
    variances = [np.var(each, ddof=1) for each in cells.values() if len(each) > 1 and np.isfinite(each).all()]
    return float(np.sqrt(np.mean(variances))) if variances else None


def _by_instruction(rows: Sequence[Row], instructions: Sequence[Instruction], measure: str, digits: int) -> Table:
    lines = [
        [i.short, *(number(_mean(list(_values(row, measure, i.text).values())), digits) for row in rows)]
        for i in instructions
    ]
    lines.append(["mean", *(number(_mean(list(_values(row, measure).values())), digits) for row in rows)])
    return Table(["instruction", *(row.label for row in rows)], lines)


def _limits(
    variants: Sequence[Variant], present: Sequence[str], clap: str | None, why_not: str, no_fad: str | None
) -> str:
    lines = ["Listening: every figure here is a program's opinion of the sound."]
    if "CLAP" not in present:
        lines.append(f"CLAP score: {why_not}.")
    elif clap != CHECKPOINT:
        lines.append(f"CLAP score by the card's checkpoint, {CHECKPOINT}: another was given.")
    if "SI-SDR" not in present:
        lines.append("SI-SDR, the distance to the truth, notes and onsets: no true stems (--stems).")
    elif missing := notes_missing():
        lines.append(f"Notes: {missing}.")
    if no_fad is not None:
        lines.append(no_fad)
    lm = variants[0].bundle.config.lm
    random = variants[0].bundle.random_weights
    if random or (lm.layers, lm.dim) != (48, 2048):
        lines.append(
            f"The published weights: this model has {'random weights, ' if random else ''}{lm.layers} layers of "
            f"{lm.dim}, "
            "MusicGen-large 48 of 2048. Its scores test this command and say nothing about music."
        )
    return "\n\n".join(lines)
