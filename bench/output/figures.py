"""Figures by matplotlib, as PNG bytes, for every command that draws."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.errors import UserError

INSTALL = "pip install 'instruct-musicgen-mlx[bench]'"


def figure(width: float, height: float, **options: Any) -> Any:
    """Return a new figure, its size in inches. Raises UserError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise UserError(f"the plots need matplotlib; {INSTALL}") from e
    return Figure(figsize=(width, height), **options)


def png(figure: Any, dpi: int) -> bytes:
    """Return a figure as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def bars(
    axes: Any, groups: Mapping[str, Sequence[float]], *, places: Sequence[float] | None = None, upright: bool = False,
    **options: Any,
) -> None:  # fmt: skip
    """Draw a bar of each group at each place (0, 1, ... if none are given), beside each other; NaN draws none.

    `options` go to `barh`, or to `bar` where `upright`.
    """
    width = 0.8 / max(1, len(groups))
    for n, (label, values) in enumerate(groups.items()):
        at = np.asarray(places if places is not None else range(len(values)), dtype=float)
        draw = axes.bar if upright else axes.barh
        draw(at + (n - (len(groups) - 1) / 2) * width, values, width, label=label, **options)


def plain(axes: Any, grid: str = "both") -> None:
    """Remove the frame's upper and right sides, and draw a light grid."""
    axes.grid(alpha=0.3, axis=grid)
    axes.spines[["top", "right"]].set_visible(False)
