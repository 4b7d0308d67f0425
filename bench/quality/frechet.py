"""Fréchet distance between two sets of embeddings, by torchmetrics (extra `eval`); of CLAP embeddings: FAD."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.float32]
MIN_RECORDINGS = 2
"""Recordings without which a set has no covariance."""


def available() -> bool:
    """Whether torch and torchmetrics are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "torchmetrics"))


def frechet_distance(ours: Embeddings, theirs: Embeddings) -> float:
    """|mean difference|^2 + tr(A + B - 2 sqrt(AB)) of Gaussians fitted to both, [n, d] and [m, d]; 0 for equal sets.

    In float64. Too large by about 1/n for sets of n, and singular where n <= d: compare sets of the same size only.
    Raises ValueError for fewer than MIN_RECORDINGS rows.
    """
    if min(len(ours), len(theirs)) < MIN_RECORDINGS:
        raise ValueError(f"{len(ours)} and {len(theirs)} embeddings are too few; a covariance needs {MIN_RECORDINGS}")
    if np.array_equal(ours, theirs):
        return 0.0
    torch: Any = importlib.import_module("torch")
    fid: Any = importlib.import_module("torchmetrics.image.fid")

    class Given(torch.nn.Module):  # type: ignore[misc]
        """The features are what is given."""

        num_features = ours.shape[1]

        def forward(self, x: Any) -> Any:
            return x

    distance = fid.FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    distance.update(torch.from_numpy(ours.astype(np.float64)), real=True)
    distance.update(torch.from_numpy(theirs.astype(np.float64)), real=False)
    return max(0.0, float(distance.compute()))
