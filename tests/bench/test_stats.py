"""bench.stats: the arithmetic behind every printed number."""

from __future__ import annotations

import numpy as np
import pytest

from bench import stats


def test_summary_is_median_and_quartiles() -> None:
    s = stats.summarize([9.0, 1.0, 3.0, 2.0, 4.0])
    assert (s.median, s.low, s.high, s.n) == (3.0, 2.0, 4.0, 5)
    assert s.spread == pytest.approx(1 / 3)


def test_nothing_to_summarize_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        stats.summarize([])


def test_ratio_pairs_rounds() -> None:
    # Both double in the last round, as under a neighbor: pairs see through it, medians of each alone would not.
    fast, slow = [1.0, 1.1, 2.0], [3.0, 3.3, 6.0]
    r = stats.paired_ratio(slow, fast)
    assert r.estimate == pytest.approx(3) and r.low == pytest.approx(3) and r.high == pytest.approx(3)
    with pytest.raises(ValueError, match="not pairs"):
        stats.paired_ratio([1.0], [1.0, 2.0])


@pytest.mark.slow
def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        a, b = rng.lognormal(0, 0.1, 30), rng.lognormal(0, 0.1, 30)
        i = stats.change([list(a)], [list(b)], seed=seed)
        hits += i.low <= 1 <= i.high
    assert hits >= 176  # 95 % of 200 is 190; blocks of few samples cost some


def test_same_samples_same_interval() -> None:
    a, b = [1.0, 1.2, 0.9, 1.1], [1.3, 1.0, 1.2, 1.1]
    assert stats.change([a], [b]) == stats.change([a], [b])
