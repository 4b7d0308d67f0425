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
from .packing import Parts, least_squares, minmax


@dataclass(frozen=True)
class Recipe:
    """How a bundle's matrices are packed.

    `least_squares`: choose each group's scale and bias for the least squared error, not from its range. `calibrated`:
    round layer projections by `model.quantize.gptq`, for the inputs seen on clips; the others as `least_squares` says.
    `other`: bits and group size (None: the default's) of the modules that differ, by pattern.
    """

    name: str
    summary: str
    least_squares: bool = False
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
        """Pack weight float [N,K] into uint32, scales and biases (`dtype`) in `mx.quantize`'s layout."""
        return (least_squares if self.least_squares else minmax)(weight, quantization, dtype)

    def overrides(self, lm: LMConfig, adapter: AdapterConfig, default: Quantization) -> dict[str, Quantization]:
        """Return what `Config.overrides` must hold.

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
        Recipe(
            "mse",
            "the published layout and size; each group's scale and bias of least squared error",
            least_squares=True,
        ),
        Recipe(
            "mixed",
            "mse, and 8 bits for self-attention's q and k, paid for by 8-bit output heads and merge_linear",
            least_squares=True,
            other=((_SCORES, 8, None), *_PAYS),
        ),
        Recipe(
            "fine",
            "mse, and groups of 32, paid for by 8-bit output heads and merge_linear",
            least_squares=True,
            other=(*_PAYS, (PROJECTION, 4, 32)),
        ),
        Recipe(
            "calibrated",
            "the published layout and size; mse, and rounding errors made up for on the inputs your clips give",
            least_squares=True,
            calibrated=True,
        ),
        Recipe(
            "calibrated-mixed",
            "mixed, rounded as calibrated",
            least_squares=True,
            calibrated=True,
            other=((_SCORES, 8, None), *_PAYS),
        ),
    )
}


def named(name: str) -> Recipe:
    """Return the recipe of that name. Raises UsageError, which lists the recipes, if there is none."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UsageError(f"recipe {name!r} is not known; use one of {', '.join(RECIPES)}") from None
