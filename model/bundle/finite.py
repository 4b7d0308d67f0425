"""Weights that are not numbers: which tensors hold NaN or infinity."""

from __future__ import annotations

import mlx.core as mx

MAX_LISTED = 5


def not_finite(tensors: dict[str, mx.array]) -> list[str]:
    """Return the names of the first float tensors that hold NaN or infinity, at most `MAX_LISTED`.

    Tensors are taken out of the dict one by one, so that only one lazy tensor is in memory at a time.
    """
    found: list[str] = []
    for name in list(tensors):
        value = tensors.pop(name)
        if mx.issubdtype(value.dtype, mx.floating) and not mx.isfinite(value).all().item():
            found.append(name)
            if len(found) == MAX_LISTED:
                break
    return found
