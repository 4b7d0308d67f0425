"""The statistics of every number that `bench` prints: median, spread, and bootstrap intervals. Nothing else averages.

Times have a floor and a long tail, so medians; their uncertainty comes from resampling (Efron 1979), percentile form,
with a fixed seed so that a table can be made again from its samples to the digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
CONFIDENCE = 0.95
PRECISE = 0.03
"""Half an interval's width, relative to the ratio, below which more samples are not worth their time."""

FASTER = 0.5
"""The share of samples that comparisons of two runs look at."""
BLOCKS = 10
"""Blocks of neighbouring rounds that a run is resampled in, at most."""

Floats = npt.NDArray[np.float64]


class Summary(NamedTuple):
    """Median of n samples, and the quartiles as their spread."""

    median: float
    low: float
    high: float
    n: int

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, relative to the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float


def summarize(samples: Sequence[float]) -> Summary:
    """Median and quartiles. Raises ValueError for no samples."""
    if not len(samples):
        raise ValueError("there are no samples to summarize; measure at least one round")
    low, median, high = np.percentile(np.asarray(samples, dtype=np.float64), (25, 50, 75))
    return Summary(float(median), float(low), float(high), len(samples))


def _medians(samples: Floats, rng: np.random.Generator) -> Floats:
    """Medians of RESAMPLES draws with replacement."""
    draws = rng.integers(0, len(samples), (RESAMPLES, len(samples)))
    return np.asarray(np.median(samples[draws], axis=1), dtype=np.float64)


def paired_ratio(
    slow: Sequence[float], fast: Sequence[float], *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Median of slow[i] / fast[i] over rounds i, with its bootstrap interval: how many times faster."""
    if len(slow) != len(fast) or not len(slow):
        raise ValueError(f"{len(slow)} and {len(fast)} samples are not pairs; measure both in every round")
    ratios = np.asarray(slow, dtype=np.float64) / np.asarray(fast, dtype=np.float64)
    medians = _medians(ratios, np.random.default_rng(seed))
    low, high = np.quantile(medians, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interval(float(np.median(ratios)), float(low), float(high))


def unsure(slow: Sequence[float], fast: Sequence[float]) -> bool:
    """Whether noise asks for more samples: the ratio's interval is wider than PRECISE either way."""
    ratio = paired_ratio(slow, fast)
    return (ratio.high - ratio.low) / 2 > PRECISE * ratio.estimate


def change(
    before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], *, confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """level(after) / level(before) of two runs, with its bootstrap interval.

    A run is [samples], or [samples, samples of a yardstick in the same rounds], whose level then divides.
    Rounds are drawn whole, in blocks of neighbours (Kuensch 1989), since a neighbour's burst lasts for several.
    """
    rng = np.random.default_rng(seed)
    levels = []
    for run in (before, after):
        rows = np.asarray(run, dtype=np.float64)
        if rows.ndim != 2 or not rows.size:
            raise ValueError("there are no samples to compare; measure at least one round in each run")
        n = rows.shape[1]
        length = -(-n // BLOCKS)
        starts = rng.integers(0, n - length + 1, (RESAMPLES, -(-n // length)))
        drawn = (starts[..., None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :n]
        levels.append((_relative(rows), _relative(rows[:, drawn])))
    (a, some_a), (b, some_b) = levels
    low, high = np.quantile(some_b / some_a, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interval(float(b / a), float(low), float(high))


def level(samples: Sequence[float] | Floats) -> Floats:
    """The median of the faster half, along the last axis: what a neighbour's burst, which only slows, leaves alone."""
    return np.asarray(np.quantile(np.asarray(samples, dtype=np.float64), FASTER / 2, axis=-1))


def _relative(rows: Floats) -> Floats:
    """The level of the first row, over the second's where there is one."""
    levels = level(rows)
    return np.asarray(levels[0] / levels[1] if len(levels) > 1 else levels[0])
