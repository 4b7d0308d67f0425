"""From a bundle's named tensors to the weights that the layers hold, in the dtypes the backend wants."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

import mlx.core as mx

from reference.contract import Norm, Ops, Packed

from .config import Config
from .projection import Matrix, Projection, Stacked, stacked

EPS = 1e-5
"""Of the LM's layer norms (torch's default, which upstream keeps)."""


@dataclass(frozen=True)
class Weights:
    """Lazy tensors under canonical names, and who will compute with them.

    A tensor is taken out when a layer asks for it: kept here too, it would stay in memory beside what was made of it
    (q, k and v stacked, a norm in another dtype).
    """

    tensors: MutableMapping[str, mx.array]
    config: Config
    ops: Ops

    @property
    def dtype(self) -> mx.Dtype:
        """Of the activations, and of the small float weights that meet them."""
        return self.ops.compute_dtype(self.config.dtype)

    def array(self, name: str) -> mx.array:
        """A float tensor in the activations' dtype."""
        return self.tensors.pop(name).astype(self.dtype)

    def norm(self, module: str) -> Norm:
        """A layer norm's weight and bias."""
        return Norm(self.array(f"{module}.weight"), self.array(f"{module}.bias"), EPS)

    def projection(self, module: str) -> Projection:
        """A linear map; packed if the bundle has scales for it."""
        return self._laid_out(self._matrix(module))

    def stacked(self, *modules: str) -> Stacked:
        """Several maps of the same input as one."""
        return Stacked(tuple(self._laid_out(each) for each in stacked([self._matrix(m) for m in modules])))

    def _matrix(self, module: str) -> Matrix:
        weight = self.tensors.pop(f"{module}.weight")
        scales = self.tensors.pop(f"{module}.scales", None)
        if scales is None:
            return weight.astype(self.ops.weight_dtype(weight.dtype))
        dtype, packing = self.ops.weight_dtype(scales.dtype), self.config.packing(module)
        assert packing is not None
        biases = self.tensors.pop(f"{module}.biases")
        return Packed(weight, scales.astype(dtype), biases.astype(dtype), packing.group_size, packing.bits)

    def _laid_out(self, matrix: Matrix) -> Projection:
        """In the backend's own layout."""
        return Projection(self.ops.pack(matrix) if isinstance(matrix, Packed) else matrix)
