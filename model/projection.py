"""A linear map of the transformer, packed or dense, as the fused operations take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from reference.contract import Norm, Ops

from .config import Quantization


@dataclass(frozen=True)
class Projection:
    """y = x W^T with W [N, K]: dense, or packed words with `scales` and `biases` (as `mx.quantize` makes them)."""

    weight: mx.array
    scales: mx.array | None = None
    biases: mx.array | None = None
    quantization: Quantization | None = None

    def __call__(self, ops: Ops, x: mx.array, **fused: Any) -> mx.array:
        """residual + activation(norm(x) W^T + bias); `fused` names those parts as in `reference.contract.Ops`."""
        if self.quantization is None or self.scales is None or self.biases is None:
            return ops.linear(x, self.weight, **fused)
        bits, group_size = self.quantization.bits, self.quantization.group_size
        return ops.int4_matmul(x, self.weight, self.scales, self.biases, bits=bits, group_size=group_size, **fused)

    def arrays(self) -> list[mx.array]:
        """What it keeps in memory."""
        return [a for a in (self.weight, self.scales, self.biases) if a is not None]


@dataclass(frozen=True)
class Stacked:
    """Maps that share an input, as one: their outputs lie side by side. One call each run of equal quantization."""

    parts: tuple[Projection, ...]

    @classmethod
    def of(cls, maps: Sequence[Projection]) -> Stacked:
        """Join neighbours that are quantized alike along N, so that they cost one launch and one read of x."""
        joined: list[Projection] = []
        for each in maps:
            if joined and joined[-1].quantization == each.quantization:
                last = joined.pop()
                both = [mx.concatenate(list(pair)) for pair in zip(last.arrays(), each.arrays())]
                packed = both[1:3] if len(both) == 3 else (None, None)
                each = Projection(both[0], packed[0], packed[1], each.quantization)
            joined.append(each)
        return cls(tuple(joined))

    def __call__(self, ops: Ops, x: mx.array, *, norm: Norm | None = None) -> mx.array:
        """[.., K] -> [.., sum of N]."""
        outputs = [part(ops, x, norm=norm) for part in self.parts]
        return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=-1)

    def arrays(self) -> list[mx.array]:
        """What it keeps in memory."""
        return [a for part in self.parts for a in part.arrays()]
