"""How many rows of the adapter's position tables were trained: told by a step in the variance of the rows.

Upstream draws every row from N(0, 1) and trains on clips of 5 s, which read the first 251 of 501 rows (250 frames and
the special one). The rows behind them get no gradient and keep the variance they were drawn with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

SIGNIFICANT = 5.0
"""Student's t, the largest over all places of the step: chance alone hardly reaches 3.5 in 500 rows."""
CLEARER = 3.0
"""Logarithm of how much likelier the levels must be with a step than with a slope."""
OUTLIER = 6.0
"""Standard deviations from the median at which a row counts no more than this: the first row, which every other one
attends to, must not make a step."""
MIN_VARIANCE = 1e-30
"""Taken as the variance of a constant row, whose own variance has no logarithm."""


@dataclass(frozen=True)
class VarianceStep:
    """The variance of a position table's rows, and where it steps."""

    rows: int
    row: int | None
    """The first row behind the step; None: there is no step."""
    before: float
    """Variance of the rows before the step (geometric mean; without a step, of all rows)."""
    after: float
    t: float
    """Student's t of the difference between the two, in logarithms."""

    @property
    def trained_frames(self) -> int | None:
        """Frames of the clips it was trained on: one row fewer than before the step, for the special frame's row."""
        return None if self.row is None else self.row - 1


def variance_step(tables: Iterable[Floats]) -> VarianceStep:
    """Find the step in the variance of the rows of position tables, each [rows, dim].

    Every table counts alike: logarithms of the variances are averaged over the tables. A step is the last place behind
    which the variance stays level; a slope is none.
    """
    logarithms, values = [], 0
    for table in tables:
        wide = np.asarray(table, np.float64)
        logarithms.append(np.log(np.maximum(wide.var(axis=1), MIN_VARIANCE)))
        values += wide.shape[1]
    levels = np.mean(logarithms, axis=0)
    # A sample variance of k normal values spreads by a factor of sqrt(2 / k).
    spread = max(1.4826 * float(np.median(np.abs(levels - np.median(levels)))), np.sqrt(2 / values))
    clipped = np.clip(levels, np.median(levels) - OUTLIER * spread, np.median(levels) + OUTLIER * spread)
    least = max(4, len(levels) // 50)
    start, row, t = 0, None, 0.0
    while (found := _split(clipped[start:], least))[1] >= SIGNIFICANT:
        jump = _is_jump(clipped[start:], found[0])
        start, t = start + found[0], found[1]
        row = start if jump else None
    if row is None:
        overall = float(np.exp(levels.mean()))
        return VarianceStep(len(levels), None, overall, overall, 0.0)
    # Where the rows before the step slope, their mean misplaces it by a few rows: its neighborhood tells better.
    low = max(row - 2 * least, 0)
    near = _split(clipped[low : row + 2 * least], 2)
    row = low + near[0] if near[1] >= SIGNIFICANT else row
    return VarianceStep(len(levels), row, float(np.exp(levels[:row].mean())), float(np.exp(levels[row:].mean())), t)


def _split(levels: Floats, least: int) -> tuple[int, float]:
    """Return the place that divides `levels` into the two most different parts of at least `least` rows.

    The second result is the |t| of their difference.
    """
    n = len(levels)
    if n < 2 * least:
        return 0, 0.0
    before = np.arange(least, n - least + 1)
    behind = n - before
    sums, squares = np.cumsum(levels)[before - 1], float((levels**2).sum())
    total = levels.sum()
    means, others = sums / before, (total - sums) / behind
    within = np.maximum(squares - before * means**2 - behind * others**2, 0) / (n - 2)
    scale = np.sqrt(within * (1 / before + 1 / behind)) + 1e-12
    best = int(np.argmax(np.abs(means - others) / scale))
    return int(before[best]), float(np.abs(means - others)[best] / scale[best])


def _is_jump(levels: Floats, place: int) -> bool:
    """Tell whether a step at the place explains the levels clearly better than a straight line does."""
    parts = levels[:place], levels[place:]
    step = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
    rows = np.arange(len(levels)) - (len(levels) - 1) / 2
    deviations = levels - levels.mean()
    line = float((deviations**2).sum() - (rows @ deviations) ** 2 / (rows @ rows))
    return len(levels) / 2 * math.log(max(line, 1e-12) / max(step, 1e-12)) > CLEARER
