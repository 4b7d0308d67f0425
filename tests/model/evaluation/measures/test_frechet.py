"""The Fréchet distance against its formula, and its bias."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from model.evaluation.measures.frechet import frechet_distance


def test_frechet_distance_against_its_formula() -> None:
    """With scipy's matrix square root; and of Gaussians that differ in their mean alone."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((6, 6))
    a, b = ((rng.standard_normal((200, 6)) @ mixing).astype(np.float32) for _ in range(2))
    b = (1.5 * b + 0.3).astype(np.float32)
    x, y = a.astype(np.float64), b.astype(np.float64)
    covariances = [np.cov(z, rowvar=False) for z in (x, y)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    shift = np.array([3, 0, 0, -4, 0, 0], np.float32)
    assert frechet_distance(a, a + shift) == pytest.approx(25, rel=1e-4)
    assert frechet_distance(a, a.copy()) == 0


def test_frechet_distance_of_few_recordings_is_too_large() -> None:
    """The bias that the page states: sets of one distribution, whose distance is 0, and about half at twice as many."""
    rng = np.random.default_rng(1)

    def mean(n: int) -> float:
        pairs = rng.standard_normal((20, 2, n, 16)).astype(np.float32)
        return float(np.mean([frechet_distance(*pair) for pair in pairs]))

    few, twice = mean(100), mean(200)
    assert few > 0.3 and 0.35 < twice / few < 0.65
    with pytest.raises(ValueError, match="too few"):
        frechet_distance(np.zeros((1, 4), np.float32), np.zeros((5, 4), np.float32))
