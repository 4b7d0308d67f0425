"""Weights of the codec in the order in which the native convolutions and LSTM read them: see src/simd/weights.h."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import mlx.core as mx

from reference.contract import CodecOperation, Weight

GATES = 4


@dataclass(frozen=True, eq=False)
class Panels:
    """Weights [N,k,C], or [4C,C] of an LSTM, as float32 panels of 32 outputs; `plain` gives them back."""

    data: mx.array
    """An array [parts · panels, columns, 32]."""
    shape: tuple[int, ...]
    operation: CodecOperation
    stride: int
    """The stride of a transposed convolution, else 0."""

    @classmethod
    def of(cls, extension: ModuleType, weight: mx.array, operation: CodecOperation, stride: int) -> Panels:
        """Reorder weights, started at once, so that the original is soon freed."""
        upsampling = stride if operation == "conv_transpose1d" else 0
        data: mx.array = extension.lay_out(weight, GATES if operation == "lstm" else 1, upsampling)
        mx.async_eval(data)  # type: ignore[no-untyped-call]
        return cls(data, weight.shape, operation, upsampling)

    def plain(self) -> mx.array:
        """Return the weights as they were given, float32."""
        _, depth, across = self.data.shape
        parts = GATES if self.operation == "lstm" else -(-self.shape[1] // self.stride) if self.stride else 1
        rows = self.data.reshape(parts, -1, depth, across).transpose(0, 1, 3, 2).reshape(parts, -1, depth)
        if not self.stride:
            return rows[:, : self.shape[0] // parts].reshape(self.shape)
        n, taps, channels = self.shape
        by_tap = rows[:, : self.stride * n].reshape(parts * self.stride, n, channels)
        return by_tap[:taps].swapaxes(0, 1)


def stored(operation: CodecOperation, stride: int, *weights: Weight) -> tuple[list[mx.array], list[int]]:
    """Return weights as the extension takes them: arrays, and the shape [N,k,C] that they stand for if laid out."""
    laid_out = [w for w in weights if isinstance(w, Panels) and (w.operation, w.stride) == (operation, stride)]
    if len(laid_out) < len(weights):
        return [w if isinstance(w, mx.array) else w.plain() for w in weights], []
    n, *middle, c = laid_out[0].shape
    return [w.data for w in laid_out], [n, *(middle or [1]), c]
