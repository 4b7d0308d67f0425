"""Linear maps of the transformer, packed or dense, as the fused operations take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from reference.contract import Norm, Ops, Packed

Matrix = mx.array | Packed
"""[N,K], dense or quantized."""


@dataclass(frozen=True)
class Projection:
    """y = x W^T with W [N, K]."""

    weight: Matrix

    def __call__(self, ops: Ops, x: mx.array, **fused: Any) -> mx.array:
        """residual + activation(norm(x) W^T + bias); `fused` names those parts as in `reference.contract.Ops`."""
        if isinstance(self.weight, Packed):
            return ops.int4_matmul(x, self.weight, **fused)
        return ops.linear(x, self.weight, **fused)

    def arrays(self) -> list[mx.array]:
        """What it keeps in memory."""
        return arrays(self.weight)


@dataclass(frozen=True)
class Stacked:
    """Maps that share an input, as one: their outputs lie side by side. One call each run of equal quantization."""

    parts: tuple[Projection, ...]

    def __call__(self, ops: Ops, x: mx.array, *, norm: Norm | None = None) -> mx.array:
        """[.., K] -> [.., sum of N]."""
        outputs = [part(ops, x, norm=norm) for part in self.parts]
        return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=-1)

    def arrays(self) -> list[mx.array]:
        """What it keeps in memory."""
        return [a for part in self.parts for a in part.arrays()]


def stacked(matrices: Sequence[Matrix]) -> list[Matrix]:
    """Join neighbors that are quantized alike along N, so that they cost one launch and one read of x."""
    joined: list[Matrix] = []
    for each in matrices:
        if joined and _quantization(joined[-1]) == _quantization(each):
            parts = [mx.concatenate(list(pair)) for pair in zip(arrays(joined.pop()), arrays(each))]
            if isinstance(each, Packed):
                each = Packed(parts[0], parts[1], parts[2], each.group_size, each.bits)
            else:
                each = parts[0]
        joined.append(each)
    return joined


def arrays(matrix: Matrix) -> list[mx.array]:
    """Return what a matrix keeps in memory."""
    return matrix.arrays() if isinstance(matrix, Packed) else [matrix]


def _quantization(matrix: Matrix) -> tuple[int, int] | None:
    return (matrix.bits, matrix.group_size) if isinstance(matrix, Packed) else None
