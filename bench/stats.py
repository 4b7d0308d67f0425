"""The statistics of every number that `bench` prints: median, spread, mean, and bootstrap intervals by scipy.

Times have a floor and a long tail, so medians; their uncertainty comes from resampling (Efron 1979), percentile form,
with a fixed seed so that a table can be made again from its samples to the digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Samples = list[Seconds]
Key = TypeVar("Key", bound=tuple[str, ...])

RESAMPLES = 2000
CONFIDENCE = 0.95
PRECISE_HALF_WIDTH = 0.03
"""Half an interval's width, relative to the ratio, below which more samples are not worth their time."""

MIN_ROUNDS = 3
"""Rounds below which a ratio is printed without an interval."""
MIN_UNITS = 3
"""Units (clips, say) below which the interval of a mean would say nothing."""

FASTER_SHARE = 0.5
"""The share of samples, the fastest, that comparisons of two runs look at."""
MAX_BLOCKS = 10
"""Blocks of neighboring rounds that a run is resampled in, at most."""

Floats = npt.NDArray[np.float64]


class Summary(NamedTuple):
    """The median of n samples, and their quartiles as the spread."""

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
    """Return median and quartiles. Raises ValueError if there are no samples."""
    if not len(samples):
        raise ValueError("there are no samples to summarize; measure at least one round")
    low, median, high = np.percentile(np.asarray(samples, dtype=np.float64), (25, 50, 75))
    return Summary(float(median), float(low), float(high), len(samples))


def _bootstrap(
    samples: npt.ArrayLike, statistic: Callable[..., Any], confidence: float, seed: int
) -> tuple[float, float]:
    """Return the percentile interval of a statistic of two or more samples."""
    from scipy.stats import bootstrap

    found = bootstrap(
        (samples,),
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def paired_ratio(
    slow: Sequence[float], fast: Sequence[float], *, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Return how many times faster `fast` is: the median of slow[i] / fast[i] over rounds i, with its interval."""
    if len(slow) != len(fast) or not len(slow):
        raise ValueError(f"{len(slow)} and {len(fast)} samples are not pairs; measure both in every round")
    ratios = np.asarray(slow, dtype=np.float64) / np.asarray(fast, dtype=np.float64)
    estimate = float(np.median(ratios))
    return Interval(estimate, *_bootstrap(ratios, np.median, confidence, seed) if len(ratios) > 1 else (estimate,) * 2)


def mean_interval(units: Sequence[float], *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval | None:
    """Return the mean of independent units with its interval; None for fewer than MIN_UNITS or values not finite.

    The interval is the bootstrap's percentile interval, widened for few units as Hesterberg (arXiv 1411.5279, section
    4.3) advises: by sqrt(n/(n-1)) · t/z, without which five units would cover 82 % where 95 % is claimed. Equal units
    give an interval of no width. The same units give the same interval.
    """
    x = np.asarray(units, dtype=np.float64)
    if len(x) < MIN_UNITS or not np.isfinite(x).all():
        return None
    if (x == x[0]).all():
        return Interval(float(x[0]), float(x[0]), float(x[0]))
    mean, (low, high) = float(x.mean()), _bootstrap(x, np.mean, confidence, seed)
    wider = _widening(len(x), confidence)
    return Interval(mean, mean - (mean - low) * wider, mean + (high - mean) * wider)


def _widening(n: int, confidence: float) -> float:
    from scipy.stats import norm, t

    quantile = (1 + confidence) / 2
    return math.sqrt(n / (n - 1)) * float(t.ppf(quantile, n - 1) / norm.ppf(quantile))


def differences(ours: Mapping[Key, float], theirs: Mapping[Key, float]) -> dict[Key, float]:
    """Return ours - theirs for each key of both; exactly 0 where equal, infinities too. Pairs with NaN are left out."""
    pairs = {key: (ours[key], theirs[key]) for key in sorted(ours.keys() & theirs.keys())}
    return {key: 0.0 if a == b else a - b for key, (a, b) in pairs.items() if not math.isnan(a) and not math.isnan(b)}


def unit_means(values: Mapping[Key, float], axis: int) -> list[float]:
    """Return the means of the values whose keys agree at `axis`, one for each unit (a clip, for example)."""
    grouped: dict[str, list[float]] = {}
    for key, value in values.items():
        grouped.setdefault(key[axis], []).append(value)
    return [float(np.mean(each)) for _, each in sorted(grouped.items())]


def unsure(base: Sequence[float], *others: Sequence[float]) -> bool:
    """Tell whether more samples are needed: half the interval of a ratio to `base` exceeds PRECISE_HALF_WIDTH."""
    ratios = (paired_ratio(base, each) for each in others)
    return any((ratio.high - ratio.low) / 2 > PRECISE_HALF_WIDTH * ratio.estimate for ratio in ratios)


def change(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return level(after) / level(before) of two runs, with its bootstrap interval.

    A run is [samples], or [samples, samples of a yardstick in the same rounds], whose level then divides.
    Rounds are drawn whole, in blocks of neighbors (Kuensch 1989), since a neighbor's burst lasts for several.
    """
    rng = np.random.default_rng(seed)
    levels = []
    for run in (before, after):
        rows = np.asarray(run, dtype=np.float64)
        if rows.ndim != 2 or not rows.size:
            raise ValueError("there are no samples to compare; measure at least one round in each run")
        n = rows.shape[1]
        length = -(-n // MAX_BLOCKS)
        starts = rng.integers(0, n - length + 1, (RESAMPLES, -(-n // length)))
        drawn = (starts[..., None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :n]
        levels.append((_relative(rows), _relative(rows[:, drawn])))
    (a, some_a), (b, some_b) = levels
    low, high = np.quantile(some_b / some_a, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interval(float(b / a), float(low), float(high))


def level(samples: Sequence[float] | Floats) -> Floats:
    """Return the median of the faster half, along the last axis, which a neighbor's burst leaves as it is."""
    return np.asarray(np.quantile(np.asarray(samples, dtype=np.float64), FASTER_SHARE / 2, axis=-1))


def _relative(rows: Floats) -> Floats:
    """Return the level of the first row, divided by the second's where there is one."""
    levels = level(rows)
    return np.asarray(levels[0] / levels[1] if len(levels) > 1 else levels[0])
