"""The Fréchet audio distance of `bench quality`: over whole sets of recordings, where all other measures are of one.

By hand: torchmetrics needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .measure import TRUE, Row

TITLE = "Fréchet audio distance"
Embeddings = npt.NDArray[np.float32]
MIN_RECORDINGS = 2
"""Recordings without which a set has no covariance."""


class Distance(NamedTuple):
    """A set of recordings, and how far it is from the true stems and from the first variant's; None: not measured."""

    label: str
    recordings: int
    to_truth: float | None
    to_first: float | None


def why_not(rows: Sequence[Row], variants: int) -> str | None:
    """Return the reason why it cannot be measured, or None."""
    if not any(row.embeddings for row in rows):
        return f"{TITLE}: it needs CLAP's embeddings."
    if min(len(row.embeddings) for row in rows[-variants:]) < 2 * MIN_RECORDINGS:
        return f"{TITLE}: fewer than {2 * MIN_RECORDINGS} recordings a variant."
    return None


def dimensions(rows: Sequence[Row]) -> int:
    """Return the length of the embeddings; 0 without any."""
    return next((len(each) for row in rows for each in row.embeddings.values()), 0)


def distances(rows: Sequence[Row], variants: int) -> list[Distance]:
    """Compare each variant's results with the true stems, if there are, and the first variant's; then its halves."""
    results, truths = rows[-variants:], [row for row in rows if row.label == TRUE]
    truth = _set(truths[0]) if truths and len(truths[0].embeddings) >= MIN_RECORDINGS else None
    first = _set(results[0])
    out = []
    for row in results:
        ours = _set(row)
        to_truth = None if truth is None else frechet_distance(ours, truth)
        to_first = None if row is results[0] else frechet_distance(ours, first)
        out.append(Distance(row.label, len(ours), to_truth, to_first))
    halves = first[::2], first[1::2]
    label = f"{results[0].label}, half against half"
    return [*out, Distance(label, len(halves[0]), None, frechet_distance(*halves))]


def _set(row: Row) -> Embeddings:
    """[n, d], in the order of clips, instructions and seeds."""
    return np.stack([row.embeddings[key] for key in sorted(row.embeddings)])


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
