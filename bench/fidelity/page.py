"""The page of `bench fidelity`: its tables; its sentences are in page.md."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from model.evaluation.fidelity.ablation import kind
from model.evaluation.fidelity.inputs import Material
from model.evaluation.fidelity.matrices import MatrixError
from model.evaluation.fidelity.measure import Fidelity, FidelitySettings
from model.evaluation.variant import Variant

from ..output.pages import Page, make, table
from ..output.tables import number, percent
from .plot import picture

MAX_ROWS = 12
"""Rows of a table of layers or parts, at most; the JSON file has all."""
BINS = 5


def page(
    variants: Sequence[Variant],
    found: Sequence[Fidelity],
    materials: Sequence[Material],
    settings: FidelitySettings,
    source: str,
    notes: Sequence[str],
) -> Page:
    """Fill in the page. `source` says where the codes come from."""
    return make(
        "fidelity", variants, partial(picture, found),
        reference=found[0], others=found[1:], found=found, settings=settings, source=source, notes=notes,
        instructions=len({m.text for m in materials}), frames=materials[0].frames,
        weights=sorted({str(v.bundle.path) for v in variants}), backends={f.backend for f in found},
        drift=_drift(found), matrices=_matrices, weights_verdict=weights_verdict, max_rows=MAX_ROWS,
    )  # fmt: skip


def _drift(found: Sequence[Fidelity]) -> str:
    others, steps = found[1:], len(found[0].kl_by_step)
    edges = [round(i * steps / BINS) for i in range(BINS + 1)]
    headers = ["steps", *(f"KL: {f.label}" for f in others), *(f"equal tokens: {f.label}" for f in others)]
    rows = []
    for low, high in pairwise(edges):
        if high > low:
            kls = [number(_mean(f.kl_by_step[low:high]), 4) for f in others]
            equal = [percent(_mean(f.equal_by_frame[low:high])) for f in others]
            rows.append([f"{low} to {high - 1}", *kls, *equal])
    return table(headers, rows)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _matrices(f: Fidelity) -> str:
    """Return, for each kind of matrix, the weights' own error and the matrix whose size is most off."""
    kinds: dict[str, list[MatrixError]] = {}
    for each in f.matrices:
        kinds.setdefault(kind(each.module), []).append(each)
    rows = []
    for name, found in kinds.items():
        worst, far = max(found, key=lambda m: m.error), max(found, key=lambda m: abs(m.gain - 1))
        row = max(found, key=lambda m: abs(m.row_gain - 1))
        cells = [f"{percent(worst.error, 2)} ({worst.module})", f"{far.gain:.4f} ({far.module})"]
        mean = percent(_mean([m.error for m in found]), 2)
        rows.append([name, mean, *cells, f"{row.row_gain:.3f} ({row.module}, row {row.row})"])
    return table(["kind", "mean error", "largest error", "gain furthest from 1", "of a row"], rows)


def weights_verdict(f: Fidelity) -> str:
    """Say which matrices, and single rows of others, are scaled by more than rounding can explain."""
    scaled = f.scaled()
    verdict = "No matrix is scaled: every gain is within 5 % of 1."
    if scaled:
        layers = sorted({m.module.split(".")[1] if m.module.startswith("layers.") else m.module for m in scaled})
        gains = [m.gain for m in scaled]
        verdict = (
            f"{len(scaled)} of {len(f.matrices)} matrices are scaled by more than rounding can (gains {min(gains):.3f} "
            f"to {max(gains):.3f}), in layer(s) {', '.join(layers)}: damage, not quantization."
        )
    if rows := [m for m in f.matrices if m.row_scaled]:
        worst = max(rows, key=lambda m: abs(m.row_gain - 1))
        verdict += (
            f" {len(rows)} more with a single row scaled, most of all row {worst.row} of {worst.module} (gain "
            f"{worst.row_gain:.3f}): damage too."
        )
    return verdict
