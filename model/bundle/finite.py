"""Weights that are no numbers: which tensors hold NaN or infinity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx

if TYPE_CHECKING:
    from .bundle import Bundle

SHOWN = 5


def not_finite(tensors: dict[str, mx.array]) -> list[str]:
    """Names of the float tensors that hold NaN or infinity: the first few, in order.

    Tensors are taken out of the dict one by one, so that of lazy ones no more than one is in memory.
    """
    found: list[str] = []
    for name in list(tensors):
        value = tensors.pop(name)
        if mx.issubdtype(value.dtype, mx.floating) and not mx.isfinite(value).all().item():
            found.append(name)
            if len(found) == SHOWN:
                break
    return found


def explanation(bundle: Bundle, what: str, suspect: str = "") -> str:
    """What to say of a result of the model that is no numbers: the weights that are none, which is the likely cause.

    `suspect` names other weights that may be, where the bundle's own are finite.
    """
    damaged = not_finite(bundle.reload(list(bundle.tensors)))
    if damaged:
        cause = f"NaN or infinity in {', '.join(damaged)}; get a whole copy of the bundle, or convert it again"
    elif suspect:
        cause = f"the bundle's weights are finite, but maybe not {suspect}; get a whole copy"
    else:
        cause = "the bundle's weights are finite; try another backend, and report it"
    return f"{bundle.path}: the model's {what}: NaN or infinite. The cause: {cause}"
