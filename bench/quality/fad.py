"""The Fréchet audio distance of `bench quality`: over whole sets of recordings, where all other measures are of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..html_page import Section, Table, number
from .frechet import LEAST, Embeddings, available, frechet_distance
from .measure import TRUE, Row

TITLE = "Fréchet audio distance"


def why_not(rows: Sequence[Row], variants: int) -> str | None:
    """The reason why it cannot be measured, or None."""
    if not any(row.embeddings for row in rows):
        return f"{TITLE}: it needs CLAP's embeddings."
    if not available():
        return f"{TITLE}: torchmetrics is not installed; pip install 'instruct-musicgen-mlx[eval]'."
    if min(len(row.embeddings) for row in rows[-variants:]) < 2 * LEAST:
        return f"{TITLE}: fewer than {2 * LEAST} recordings a variant."
    return None


def section(rows: Sequence[Row], variants: int) -> Section:
    """Each variant's results against the true stems, if there are, and against the first variant's results."""
    results, truths = rows[-variants:], [row for row in rows if row.label == TRUE]
    truth = _set(truths[0]) if truths and len(truths[0].embeddings) >= LEAST else None
    first = _set(results[0])
    lines = []
    for row in results:
        ours = _set(row)
        to_truth = None if truth is None else frechet_distance(ours, truth)
        to_first = None if row is results[0] else frechet_distance(ours, first)
        lines.append([row.label, str(len(ours)), number(to_truth, 4), number(to_first, 4)])
    halves = frechet_distance(first[::2], first[1::2])
    lines.append([f"{results[0].label}, half against half", str(len(first[::2])), "-", number(halves, 4)])
    text = (
        "Distance between Gaussians fitted to the CLAP embeddings of two sets of recordings, by torchmetrics; lower is "
        "closer, equal sets give 0. It has no intervals, and a bias: it comes out too large, by about one over the "
        f"number of recordings, and under {first.shape[1] + 1} of them the covariance of {first.shape[1]} dimensions "
        "is singular. So compare only figures of equally many recordings. The last line shows the bias: the first "
        "variant's results against themselves, every other one; a difference smaller than it is no evidence."
    )
    columns = ["variant", "recordings", "to true stems", f"to {results[0].label}"]
    return Section(TITLE, text, Table(columns, lines))


def _set(row: Row) -> Embeddings:
    """[n, d], in the order of clips, instructions and seeds."""
    return np.stack([row.embeddings[key] for key in sorted(row.embeddings)])
