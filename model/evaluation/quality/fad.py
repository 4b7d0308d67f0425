"""The Fréchet audio distance of `bench quality`: over whole sets of recordings, where all other measures are of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..measures.frechet import MIN_RECORDINGS, Embeddings, frechet_distance
from .measure import TRUE, Row

TITLE = "Fréchet audio distance"


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
    """Stack the embeddings [n,d] in the order of clips, instructions and seeds."""
    return np.stack([row.embeddings[key] for key in sorted(row.embeddings)])
