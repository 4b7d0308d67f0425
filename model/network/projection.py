"""From a bundle's named tensors to linear maps and norms, in the dtypes and layouts that the backend wants."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from reference.contract import Norm, Ops, Packed
from reference.heads import merge_heads, stack_heads, unstack
from reference.tiles import DTYPE, Tiles

from ..config import Config

EPS = 1e-5
"""Epsilon of the LM's layer norms (torch's default, which upstream keeps)."""
Matrix = mx.array | Packed
"""[N,K], dense or quantized."""


@dataclass(frozen=True)
class Projection:
    """y = x W^T with W [N,K], computed by `ops`."""

    ops: Ops
    weight: Matrix

    def __call__(self, x: mx.array, **fused: Any) -> mx.array:
        """Compute residual + activation(norm(x) W^T + bias); `fused` names those parts as `Ops` does."""
        if isinstance(self.weight, Packed):
            return self.ops.int4_matmul(x, self.weight, **fused)
        return self.ops.linear(x, self.weight, **fused)

    def cross_attention(self, x: mx.array, k: mx.array, v: mx.array, *, scale: float, norm: Norm) -> mx.array:
        """Attend from the queries norm(x) W^T of x [B,T,K] to k, v [B',H,L,D]: [B,T,H·D], 0 for the rows from B' on.

        `Ops.cross_attention` takes packed weights only: over a dense one the same is put together from its parts.
        """
        if isinstance(self.weight, Packed):
            return self.ops.cross_attention(x, self.weight, k=k, v=v, scale=scale, norm=norm)
        rows, heads, _, head_dim = k.shape
        (q,) = unstack(stack_heads(self(x[:rows], norm=norm), heads, head_dim))
        attended = merge_heads(self.ops.attention(q, k, v, scale=scale))
        return mx.pad(attended, [(0, x.shape[0] - rows), (0, 0), (0, 0)])

    def arrays(self) -> list[mx.array]:
        """Return the arrays that it keeps in memory."""
        return _arrays(self.weight)


@dataclass(frozen=True)
class Stacked:
    """Projections that share an input, joined along the last axis; neighbors of equal quantization are one call."""

    parts: tuple[Projection, ...]

    def __call__(self, x: mx.array, *, norm: Norm | None = None) -> mx.array:
        """Compute all of them: [.., K] -> [.., sum of N]."""
        outputs = [part(x, norm=norm) for part in self.parts]
        return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=-1)

    def arrays(self) -> list[mx.array]:
        """Return what it keeps in memory."""
        return [a for part in self.parts for a in part.arrays()]


@dataclass(frozen=True)
class Weights:
    """Lazy tensors under canonical names, and who will compute with them.

    A tensor is taken out when a layer asks for it: kept here too, it would stay in memory beside what was made of it
    (q, k and v stacked, a norm in another dtype, a matrix in a layout of the backend's).
    """

    tensors: MutableMapping[str, mx.array]
    config: Config
    ops: Ops
    tiles: MutableMapping[str, Tiles] = field(default_factory=dict)
    """Modules among them that are stored as tiles, which the same tensors are made of."""

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the activations, and of the small float weights that meet them."""
        return self.ops.compute_dtype(self.config.dtype)

    def array(self, name: str) -> mx.array:
        """Take a float tensor, in the activations' dtype."""
        return self.tensors.pop(name).astype(self.dtype)

    def norm(self, module: str) -> Norm:
        """Take a layer norm's weight and bias."""
        return Norm(self.array(f"{module}.weight"), self.array(f"{module}.bias"), EPS)

    def projection(self, module: str) -> Projection:
        """Take a linear map; packed if the bundle has scales for it."""
        return self._laid_out(self._matrix(module))

    def stacked(self, *modules: str) -> Stacked:
        """Take several maps of the same input as one."""
        return Stacked(tuple(self._laid_out(each) for each in _joined([self._matrix(m) for m in modules])))

    def _matrix(self, module: str) -> Matrix:
        weight = self.tensors.pop(f"{module}.weight")
        scales = self.tensors.pop(f"{module}.scales", None)
        if scales is None:
            return weight.astype(self.ops.weight_dtype(weight.dtype))
        dtype, packing = self.ops.weight_dtype(scales.dtype), self.config.packing(module)
        assert packing is not None
        biases = self.tensors.pop(f"{module}.biases")
        if module in self.tiles and dtype == DTYPE:
            return self.tiles.pop(module)
        return Packed(weight, scales.astype(dtype), biases.astype(dtype), packing.group_size, packing.bits)

    def _laid_out(self, matrix: Matrix) -> Projection:
        return Projection(self.ops, self.ops.pack(matrix) if isinstance(matrix, Packed) else matrix)


def _joined(matrices: Sequence[Matrix]) -> list[Matrix]:
    """Join neighbors that are quantized alike along N, so that they cost one launch and one read of x."""
    joined: list[Matrix] = []
    for each in matrices:
        if joined and _quantization(joined[-1]) == _quantization(each):
            before = joined.pop()
            if isinstance(before, Tiles) and isinstance(each, Tiles):
                joined.append(Tiles(before.stacked + each.stacked, each.group_size, each.bits))
                continue
            parts = [mx.concatenate(list(pair)) for pair in zip(_arrays(before), _arrays(each))]
            if isinstance(each, Packed):
                each = Packed(parts[0], parts[1], parts[2], each.group_size, each.bits)
            else:
                each = parts[0]
        joined.append(each)
    return joined


def _arrays(matrix: Matrix) -> list[mx.array]:
    return matrix.arrays() if isinstance(matrix, Packed) else [matrix]


def _quantization(matrix: Matrix) -> tuple[int, int, bool] | None:
    return (matrix.bits, matrix.group_size, isinstance(matrix, Tiles)) if isinstance(matrix, Packed) else None
