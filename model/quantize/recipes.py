"""Recipes of quantization: which modules get how many bits, and how their scales are chosen.

A recipe's name goes into config.json (`quantization.recipe`); what it did to each module is there as well, so a reader
needs to know no recipe. `plain` is the published layout: layer projections by `mx.quantize`, all else 16-bit floats.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import mlx.core as mx

from ..bundle import tensors as layout
from ..config import PROJECTION, AdapterConfig, Config, LMConfig, Quantization
from ..errors import UsageError

SHRINKS = (1.0, 0.92, 0.84, 0.76, 0.68)
"""How much of a group's range the search starts from; the values beyond it are clipped."""
REFITS = 3
BLOCK = 1 << 22
"""Weights searched at once: about half a gigabyte of intermediate results."""

Parts = tuple[mx.array, mx.array, mx.array]


@dataclass(frozen=True)
class Recipe:
    """`search`: scales of least squared error instead of the range's.

    `calibrated`: layer projections by `model.quantize.gptq` for the inputs seen on clips; the others as `search` says.
    `other`: bits and group size (None: the default's) of the modules that differ, by pattern.
    """

    name: str
    summary: str
    search: bool = False
    calibrated: bool = False
    other: tuple[tuple[str, int, int | None], ...] = ()

    def quantization(self, module: str, default: Quantization) -> Quantization | None:
        """Return how to pack a module, by canonical name; None keeps it as floats.

        Only matrices of layers, heads and the adapter are packed.
        """
        if not _MATRIX.fullmatch(module):
            return None
        for pattern, bits, group_size in self.other:
            if re.fullmatch(pattern, module):
                return Quantization(max(bits, default.bits), group_size or default.group_size)
        return default if re.fullmatch(PROJECTION, module) else None

    def pack(self, weight: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Parts:
        """weight float [N, K] -> packed uint32, scales and biases (`dtype`) in `mx.quantize`'s layout."""
        return (search if self.search else plain)(weight, quantization, dtype)

    def overrides(self, lm: LMConfig, adapter: AdapterConfig, default: Quantization) -> dict[str, Quantization]:
        """Return what `Config.recipe` must hold.

        The modules that differ from the default, and those only a recipe packs.
        """
        usual = Config(lm, adapter, quantization=default)
        found = {}
        for name in layout.lm_shapes(lm, adapter):
            module = name.removesuffix(".weight")
            quantization = self.quantization(module, default)
            if quantization and quantization != usual.packing(module):
                found[module] = quantization
        return found


_HEADS = r"linears\.\d+"
_MERGE = r"cp_transformer\.merge_linear\.\d+"
_MATRIX = re.compile(f"{PROJECTION}|{_HEADS}|{_MERGE}")
_SCORES = r"layers\.\d+\.self_attn\.[qk]_proj"
_PAYS = ((_HEADS, 8, None), (_MERGE, 8, None))
"""8 bits where 16 are too many: in MusicGen-large it pays 204 MB, what the finer recipes below spend."""

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("plain", "the published layout: layer projections by mx.quantize, all else 16 bits"),
        Recipe("heads", "the published layout, and 8-bit output heads", other=((_HEADS, 8, None),)),
        Recipe("mse", "the published layout and size; each group's scale and bias of least squared error", search=True),
        Recipe(
            "mixed",
            "mse, and 8 bits for self-attention's q and k, paid for by 8-bit output heads and merge_linear",
            search=True,
            other=((_SCORES, 8, None), *_PAYS),
        ),
        Recipe(
            "fine",
            "mse, and groups of 32, paid for by 8-bit output heads and merge_linear",
            search=True,
            other=(*_PAYS, (PROJECTION, 4, 32)),
        ),
        Recipe(
            "calibrated",
            "the published layout and size; mse, and rounding errors made up for on the inputs your clips give",
            search=True,
            calibrated=True,
        ),
        Recipe(
            "calibrated-mixed",
            "mixed, rounded as calibrated",
            search=True,
            calibrated=True,
            other=((_SCORES, 8, None), *_PAYS),
        ),
    )
}


def named(name: str) -> Recipe:
    """Return the recipe of that name. UsageError lists those there are."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UsageError(f"recipe {name!r} is not known; use one of {', '.join(RECIPES)}") from None


def plain(weight: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Parts:
    """`mx.quantize` of the float32 weights, its scales and biases rounded to `dtype`."""
    w, scales, biases = mx.quantize(
        weight.astype(mx.float32), group_size=quantization.group_size, bits=quantization.bits
    )
    return w, scales.astype(dtype), biases.astype(dtype)


def search(weight: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Parts:
    """Pack as `plain` does, with scales of less squared error.

    Each group takes, among `mx.quantize`'s own choice and several clipped ranges refitted by least squares (the
    integers fixed, then the scale and bias; REFITS times), what leaves the least squared error after the scale and bias
    are rounded to `dtype`. So no group is further from its weights than with `mx.quantize`. Needs no calibration; the
    same weights give the same bits. A block of rows at a time, for it needs room.
    """
    rows = max(1, BLOCK // weight.shape[1])
    blocks = []
    for start in range(0, weight.shape[0], rows):
        blocks.append(_search(weight[start : start + rows], quantization, dtype))
        mx.eval(blocks[-1])
    w, scales, biases = (mx.concatenate(list(part)) for part in zip(*blocks))
    return w, scales, biases


def packed_words(integers: mx.array, bits: int) -> mx.array:
    """Integers [N, K] below 2^bits -> uint32 [N, K·bits/32], the first in the lowest bits."""
    words = integers.astype(mx.uint32).reshape(len(integers), -1, 32 // bits)
    return (words << _shifts(bits)).sum(axis=-1).astype(mx.uint32)


def _shifts(bits: int) -> mx.array:
    return mx.arange(32 // bits, dtype=mx.uint32) * bits


def _search(weight: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Parts:
    bits, size = quantization.bits, quantization.group_size
    w, scales, biases = plain(weight, quantization, dtype)
    rows, top = weight.shape[0], 2**bits - 1
    groups = weight.astype(mx.float32).reshape(rows, -1, size)
    integers = ((w[..., None] >> _shifts(bits)) & top).reshape(groups.shape).astype(mx.float32)
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
    return packed_words(best[0].reshape(rows, -1), bits), best[1][..., 0], best[2][..., 0]


def _rounded(groups: mx.array, scale: mx.array, bias: mx.array, top: int) -> mx.array:
    """Return the integer of each weight."""
    return mx.clip(mx.round((groups - bias.astype(mx.float32)) / scale.astype(mx.float32)), 0, top)


def _refit(groups: mx.array, integers: mx.array) -> tuple[mx.array, mx.array]:
    """Scale and bias of least squared error for given integers."""
    mean_q, mean_w = integers.mean(axis=-1, keepdims=True), groups.mean(axis=-1, keepdims=True)
    centered = integers - mean_q
    scale = (centered * (groups - mean_w)).sum(axis=-1, keepdims=True) / mx.maximum(
        (centered * centered).sum(axis=-1, keepdims=True), 1e-12
    )
    scale = mx.maximum(scale, 1e-12)
    return scale, mean_w - scale * mean_q


def _error(groups: mx.array, integers: mx.array, scale: mx.array, bias: mx.array) -> mx.array:
    """Squared error of each group, [N, groups, 1]."""
    made = integers * scale.astype(mx.float32) + bias.astype(mx.float32)
    return mx.square(made - groups).sum(axis=-1, keepdims=True)
