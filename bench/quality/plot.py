"""The plot of `bench quality`: every row's mean of every measure, with its interval, as one PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from model.evaluation.quality.measure import Row

from ..output import figures
from ..stats import mean_interval, unit_means

COLUMNS = 3


def picture(rows: Sequence[Row], measures: dict[str, str], axis: int | None, variants: int) -> bytes:
    """Draw every row's mean of every measure with its interval as one PNG.

    `measures`: the title of each by name. `axis`: the part of the keys that intervals resample. Raises UserError where
    matplotlib is not installed.
    """
    high = math.ceil(len(measures) / COLUMNS)
    figure = figures.figure(13, high * (0.9 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots(high, COLUMNS, squeeze=False, sharey=True).flat
    labels = [row.label for row in rows]
    for plot, (name, title) in zip(axes, measures.items()):
        for place, row in enumerate(rows):
            values = {k: v for k, v in row.values.get(name, {}).items() if not math.isnan(v)}
            mean = float(np.mean(list(values.values()))) if values else math.nan
            if not math.isfinite(mean):
                continue
            found = mean_interval(unit_means(values, axis)) if axis is not None else None
            color = "C0" if place >= len(rows) - variants else "0.5"
            if found is not None:
                plot.plot([found.low, found.high], [place, place], color=color, alpha=0.5)
            plot.plot(mean, place, "o", color=color)
        plot.set_title(title, fontsize="medium")
        plot.set_yticks(range(len(rows)), labels)
        plot.locator_params(axis="x", nbins=5)
        figures.plain(plot)
    for plot in list(figure.axes)[len(measures) :]:
        plot.remove()
    figure.axes[0].set_ylim(len(rows) - 0.5, -0.5)  # in the tables' order
    return figures.png(figure, 100)
