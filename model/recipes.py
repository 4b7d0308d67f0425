"""Recipes of quantization: which modules get how many bits, and how their scales are chosen.

A recipe's name goes into config.json (`quantization.recipe`); what it did to each module is there as well, so a reader
needs to know no recipe. `plain` is the published layout: layer projections by `mx.quantize`, all else 16-bit floats.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import mlx.core as mx

from .config import Quantization
from .errors import UsageError

SHRINKS = (1.0, 0.92, 0.84, 0.76, 0.68)
"""How much of a group's range the search starts from; the values beyond it are clipped."""
REFITS = 3

Packed = tuple[mx.array, mx.array, mx.array]


@dataclass(frozen=True)
class Recipe:
    """`search`: scales of least squared error instead of the range's. `other`: modules (by pattern) that differ."""

    name: str
    summary: str
    search: bool = False
    other: tuple[tuple[str, Quantization], ...] = ()

    def quantization(self, module: str, default: Quantization) -> Quantization | None:
        """Of one module, by canonical name; None keeps it as floats."""
        for pattern, quantization in self.other:
            if re.fullmatch(pattern, module):
                return quantization
        return default if _PROJECTION.fullmatch(module) else None

    def pack(self, weight: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Packed:
        """`quantize` with this recipe's choice of scales."""
        return quantize(weight, quantization, dtype, search=self.search)


_PROJECTION = re.compile(r"layers\.\d+\.(self_attn\.\w+_proj|cross_attn\.\w+_proj|linear[12])")
_HEADS = r"linears\.\d+"
_MERGE = r"cp_transformer\.merge_linear\.\d+"
_EIGHT = Quantization(8, 64)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("plain", "the published layout: layer projections by mx.quantize, all else 16 bits"),
        Recipe("mse", "the published layout and size; each group's scale and bias of least squared error", search=True),
    )
}


def named(name: str) -> Recipe:
    """The recipe of that name. UsageError lists those there are."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UsageError(f"recipe {name!r} is not known; use one of {', '.join(RECIPES)}") from None


def quantize(weight: mx.array, quantization: Quantization, dtype: mx.Dtype, *, search: bool) -> Packed:
    """weight float [N, K] -> packed uint32, scales and biases (`dtype`) in `mx.quantize`'s layout.

    With `search`, each group takes, among `mx.quantize`'s own choice and several clipped ranges refitted by least
    squares (the integers fixed, then the scale and bias; REFITS times), what leaves the least squared error after the
    scale and bias are rounded to `dtype`. So no group is further from its weights than with `mx.quantize`. Needs no
    calibration; the same weights give the same bits.
    """
    bits, size = quantization.bits, quantization.group_size
    w, scales, biases = mx.quantize(weight.astype(mx.float32), group_size=size, bits=bits)
    scales, biases = scales.astype(dtype), biases.astype(dtype)
    if not search:
        return w, scales, biases
    rows, top = weight.shape[0], 2**bits - 1
    groups = weight.astype(mx.float32).reshape(rows, -1, size)
    shifts = mx.arange(32 // bits, dtype=mx.uint32) * bits
    integers = ((w[..., None] >> shifts) & top).reshape(groups.shape).astype(mx.float32)
    best = integers, scales[..., None], biases[..., None]
    error = _error(groups, *best)
    low, high = groups.min(axis=-1, keepdims=True), groups.max(axis=-1, keepdims=True)
    middle, half = (low + high) / 2, (high - low) / 2
    for shrink in SHRINKS:
        scale, bias = mx.maximum(2 * shrink * half / top, 1e-12), middle - shrink * half
        for _ in range(REFITS):
            scale, bias = _refit(groups, _rounded(groups, scale, bias, top))
        s, b = scale.astype(dtype), bias.astype(dtype)
        usable = mx.abs(s) > 0
        q = _rounded(groups, mx.where(usable, s, 1), b, top)
        better = mx.logical_and(_error(groups, q, s, b) < error, usable)
        best = mx.where(better, q, best[0]), mx.where(better, s, best[1]), mx.where(better, b, best[2])
        error = mx.minimum(error, mx.where(better, _error(groups, q, s, b), error))
    words = best[0].astype(mx.uint32).reshape(rows, -1, 32 // bits)
    return (words << shifts).sum(axis=-1).astype(mx.uint32), best[1][..., 0], best[2][..., 0]


def _rounded(groups: mx.array, scale: mx.array, bias: mx.array, top: int) -> mx.array:
    """The integer of each weight."""
    return mx.clip(mx.round((groups - bias.astype(mx.float32)) / scale.astype(mx.float32)), 0, top)


def _refit(groups: mx.array, integers: mx.array) -> tuple[mx.array, mx.array]:
    """Scale and bias of least squared error for given integers."""
    mean_q, mean_w = integers.mean(axis=-1, keepdims=True), groups.mean(axis=-1, keepdims=True)
    centred = integers - mean_q
    scale = (centred * (groups - mean_w)).sum(axis=-1, keepdims=True) / mx.maximum(
        (centred * centred).sum(axis=-1, keepdims=True), 1e-12
    )
    scale = mx.maximum(scale, 1e-12)
    return scale, mean_w - scale * mean_q


def _error(groups: mx.array, integers: mx.array, scale: mx.array, bias: mx.array) -> mx.array:
    """Squared error of each group, [N, groups, 1]."""
    made = integers * scale.astype(mx.float32) + bias.astype(mx.float32)
    return mx.square(made - groups).sum(axis=-1, keepdims=True)
