"""The four plots of `bench fidelity` as one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.evaluation.fidelity.measure import Fidelity

from ..output import figures

SMOOTHED_STEPS = 25
"""Steps that are averaged in the plots by step."""


def picture(found: Sequence[Fidelity]) -> bytes:
    """Draw KL by step, equal tokens by step, own error by layer and cost by kind as one PNG.

    Raises UserError where matplotlib is not installed.
    """
    figure = figures.figure(12, 8, layout="constrained")
    axes = figure.subplots(2, 2)
    others = found[1:]
    kls = {f.label: f.kl_by_step for f in others}
    _by_step(axes[0, 0], kls, "KL after each step, right tokens forced", "KL, nats a token")
    equal = {f.label: [100 * x for x in f.equal_by_frame] for f in others}
    _by_step(axes[0, 1], equal, "Generating freely, same seed: tokens as the reference's", "equal tokens, %")
    axes[0, 1].set_ylim(0, 105)
    _layers(axes[1, 0], others)
    _kinds(axes[1, 1], others)
    figure.suptitle(f"Distance from {found[0].label} (lower is closer, but for equal tokens)")
    return figures.png(figure, 110)


def _by_step(axes: Any, lines: Mapping[str, Sequence[float]], title: str, unit: str) -> None:
    width = 1
    for label, values in lines.items():
        width = max(1, min(SMOOTHED_STEPS, len(values) // 4))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(np.arange(len(smooth)) + width / 2, smooth, label=label)
    axes.set(title=title, xlabel=f"step (mean of the {width} around it)", ylabel=unit)
    if unit.startswith("KL") and _apart([float(np.mean(values)) for values in lines.values()]):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    _finish(axes, "both")


def _apart(means: Sequence[float]) -> bool:
    """Tell whether values need a logarithmic axis to be seen beside each other, and can have one (all are above 0)."""
    return bool(means) and min(means) > 0 and max(means) > 10 * min(means)


def _layers(axes: Any, others: Sequence[Fidelity]) -> None:
    places = [e.layer for e in others[0].layers] if others else []
    figures.bars(axes, {f.label: [100 * e.own for e in f.layers] for f in others}, places=places, upright=True)
    axes.set(title="Error of each layer alone, given the reference's input", xlabel="layer", ylabel="relative error, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(top=axes.get_ylim()[1] * 1.25)  # room for the legend
    _finish(axes, "y")


def _kinds(axes: Any, others: Sequence[Fidelity]) -> None:
    costs = {f.label: {c.part.name: c.kl for c in f.costs["kind"]} for f in others if "kind" in f.costs}
    axes.set(title="Cost of one kind of matrix alone", xlabel="KL, nats a token")
    if not costs:
        axes.text(0.5, 0.5, "not measured\n(same weights, or --by without kind)", ha="center", transform=axes.transAxes)
        return
    worst = {kind: max(each.get(kind, 0.0) for each in costs.values()) for each in costs.values() for kind in each}
    kinds = sorted(worst, key=lambda kind: worst[kind])
    figures.bars(axes, {label: [each.get(kind, 0.0) for kind in kinds] for label, each in costs.items()})
    axes.set_yticks(range(len(kinds)), kinds)
    if _apart([float(np.mean(list(each.values()))) for each in costs.values()]):
        axes.set_xscale("log")
        axes.set_xlabel("KL, nats a token (no bar: it costs nothing)")
    _finish(axes, "x")


def _finish(axes: Any, lines: str) -> None:
    axes.legend(frameon=False, ncols=2 if len(axes.get_legend_handles_labels()[1]) > 2 else 1)
    figures.plain(axes, lines)
