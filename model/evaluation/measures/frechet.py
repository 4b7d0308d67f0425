"""The Fréchet distance of two sets of embeddings. By hand: torchmetrics needs torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.float32]
MIN_RECORDINGS = 2
"""Recordings without which a set has no covariance."""


def frechet_distance(ours: Embeddings, theirs: Embeddings) -> float:
    """Return |mean difference|^2 + tr(A + B - 2 sqrt(AB)) of Gaussians fitted to both, [n, d] and [m, d]; 0 if equal.

    In float64. Too large by about 1/n for sets of n, and singular where n <= d: compare sets of the same size only.
    Raises ValueError for fewer than MIN_RECORDINGS rows.
    """
    if min(len(ours), len(theirs)) < MIN_RECORDINGS:
        raise ValueError(f"{len(ours)} and {len(theirs)} embeddings are too few; a covariance needs {MIN_RECORDINGS}")
    if np.array_equal(ours, theirs):
        return 0.0
    x, y = ours.astype(np.float64), theirs.astype(np.float64)
    a, b = (np.cov(each, rowvar=False) for each in (x, y))
    # The trace of a matrix's root is the sum of its eigenvalues' roots; rounding makes some of them a little negative.
    root = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
    distance = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a) + np.trace(b) - 2 * root
    return max(0.0, float(distance))
