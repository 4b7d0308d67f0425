"""A 16 or 32-bit bundle quantized as it is read, to the bit as `convert` would with the same recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import mlx.core as mx

from reference.tiles import Tiles

from ..bundle.bundle import Bundle, is_kept_packed
from ..bundle.tensors import projections
from ..config import Quantization
from ..errors import UsageError
from .recipes import Recipe


@dataclass(frozen=True)
class Quantized(Bundle):
    """A dense bundle quantized as it is read, to the bit as `convert` would with this recipe."""

    recipe: Recipe
    default: Quantization

    def tiles(self) -> dict[str, Tiles]:
        """Return no tiles: the matrices are made anew."""
        return {}

    def _load(self, wanted: Iterable[str]) -> dict[str, mx.array]:
        tensors = super()._load(wanted)
        for name in list(tensors):
            module = name.removesuffix(".weight")
            quantization = self.recipe.quantization(module, self.default) if name != module else None
            if quantization is None:
                tensors[name] = tensors[name].astype(self.config.dtype)
                continue
            w, scales, biases = self.recipe.pack(tensors[name], quantization, self.config.dtype)
            if is_kept_packed(module):
                tensors |= {name: w, f"{module}.scales": scales, f"{module}.biases": biases}
            else:  # as Bundle reads them
                bits, size = quantization.bits, quantization.group_size
                tensors[name] = mx.dequantize(w, scales, biases, group_size=size, bits=bits)
        return tensors


def quantized(bundle: Bundle, recipe: Recipe, default: Quantization) -> Quantized:
    """Return a dense bundle as `recipe` quantizes it.

    Raises UsageError if it is already quantized, or a group size does not divide a matrix.
    """
    if bundle.config.quantization is not None:
        bits = bundle.config.quantization.bits
        raise UsageError(f"{bundle.path} already has {bits} bits; --bits and --recipes need 16 or 32 bits first")
    lm, adapter = bundle.config.lm, bundle.config.adapter
    other = recipe.overrides(lm, adapter, default)
    for module, shape in projections(lm).items():
        size = other.get(module, default).group_size
        if shape[1] % size:
            raise UsageError(f"groups of {size} do not divide {module} {list(shape)}; use --group-size 32")
    dtype = mx.float16 if bundle.config.dtype == mx.float32 else bundle.config.dtype
    config = replace(bundle.config, dtype=dtype, quantization=default, overrides=other)
    return Quantized(bundle.path, config, bundle.sources, bundle.raw_config, recipe, default)


def stored_bytes(bundle: Bundle) -> int:
    """Return the bytes of the LM's and adapter's tensors, as a file would hold them."""
    if not isinstance(bundle, Quantized):
        return sum(math.prod(source.shape) * source.dtype.size for source in bundle.sources.values())
    total = 0
    for name, source in bundle.sources.items():
        size, module = math.prod(source.shape), name.removesuffix(".weight")
        q = bundle.recipe.quantization(module, bundle.default) if name != module else None
        dtype = bundle.config.dtype.size
        total += size * dtype if q is None else size * q.bits // 8 + 2 * size // q.group_size * dtype
    return total
