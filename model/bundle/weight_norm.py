"""Convolutions whose weight is stored in parts: a direction and its length (weight normalization, arXiv 1602.07868)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats.safetensors_file import Shape

Array = npt.NDArray[Any]
Read = Callable[[str], Array]
NORM_FORMS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))

MERGED_TOGETHER = 1 << 17
"""Values of a weight whose parts are multiplied at a time."""


def conv_parts(module: str, shape: Shape, stored: Iterable[str]) -> dict[str, Shape]:
    """Return the tensors that make up one convolution's weight, as torch stores them, whichever form the file has."""
    out, kernel, channels = shape
    whole = (channels, out, kernel) if ".convtr." in module else (out, channels, kernel)
    if f"{module}.weight" in stored:
        return {f"{module}.weight": whole}
    g, v = next((form for form in NORM_FORMS if f"{module}.{form[1]}" in stored), NORM_FORMS[0])
    return {f"{module}.{g}": (whole[0], 1, 1), f"{module}.{v}": whole}


def conv_weight(module: str, stored: Iterable[str], get: Read) -> Array:
    """Return a convolution's weight float32: g · v / ‖v‖ (norm over axes 1 and 2), or the weight as stored."""
    for g, v in NORM_FORMS:
        if f"{module}.{v}" in stored:
            return _merged(get(f"{module}.{g}"), get(f"{module}.{v}"))
    return get(f"{module}.weight")


def _merged(length: Array, direction: Array) -> Array:
    """g · v / ||v|| in float64, some rows at a time: all at once it takes several times the memory of the result."""
    whole = np.empty(direction.shape, np.float32)
    rows = max(1, MERGED_TOGETHER // max(1, direction[0].size))
    for at in range(0, len(whole), rows):
        part = direction[at : at + rows].astype(np.float64)
        norm = np.sqrt((part * part).sum(axis=(1, 2), keepdims=True))
        whole[at : at + rows] = length[at : at + rows] * part / np.maximum(norm, np.finfo(np.float32).tiny)
    return whole
