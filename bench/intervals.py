"""Means with bootstrap intervals, and paired differences of means, over units that may be drawn anew (clips)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TypeVar

import numpy as np

from bench.stats import CONFIDENCE, RESAMPLES, Interval

Key = TypeVar("Key", bound=tuple[str, ...])
LEAST = 3
"""Units below which an interval would say nothing."""


def mean_interval(units: Sequence[float], *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval | None:
    """Mean of independent units with its bootstrap interval; None for fewer than LEAST units or values not finite.

    The percentile interval, widened for few units as Hesterberg (arXiv 1411.5279, section 4.3) advises: by
    sqrt(n/(n-1)) · t/z, without which five units would cover 82 % where 95 % is claimed. Equal units give an interval
    of no width. The same units give the same interval.
    """
    x = np.asarray(units, dtype=np.float64)
    if len(x) < LEAST or not np.isfinite(x).all():
        return None
    mean = float(x.mean())
    if not (x != x[0]).any():
        return Interval(float(x[0]), float(x[0]), float(x[0]))
    draws = np.random.default_rng(seed).integers(0, len(x), (RESAMPLES, len(x)))
    low, high = np.quantile(x[draws].mean(axis=1), ((1 - confidence) / 2, (1 + confidence) / 2))
    wider = _widening(len(x), confidence)
    return Interval(mean, mean - (mean - float(low)) * wider, mean + (float(high) - mean) * wider)


def _widening(n: int, confidence: float) -> float:
    """sqrt(n/(n-1)) · t/z, with Student's t by its expansion in 1/v (Abramowitz and Stegun 26.7.5; 3 % off at v=2)."""
    z, v = NormalDist().inv_cdf((1 + confidence) / 2), n - 1
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return math.sqrt(n / (n - 1)) * t / z


def differences(ours: Mapping[Key, float], theirs: Mapping[Key, float]) -> dict[Key, float]:
    """ours - theirs for each key of both; exactly 0 where equal, infinities too. Pairs with NaN are left out."""
    out = {}
    for key in ours.keys() & theirs.keys():
        a, b = ours[key], theirs[key]
        if not math.isnan(a) and not math.isnan(b):
            out[key] = 0.0 if a == b else a - b
    return dict(sorted(out.items()))


def unit_means(values: Mapping[Key, float], axis: int) -> list[float]:
    """Means of the values whose keys agree at `axis`: the units, clips for example."""
    grouped: dict[str, list[float]] = {}
    for key, value in values.items():
        grouped.setdefault(key[axis], []).append(value)
    return [float(np.mean(each)) for _, each in sorted(grouped.items())]
