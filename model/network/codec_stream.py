"""The codec's layers over a signal that comes in parts.

Each part is given with whether it is the last; what comes out, joined, is what the layer makes of the whole signal, up
to rounding. The same parts give the same bits, and each row of a batch is computed alone (see
`model.network.rows`). All parts but the last must be longer than a layer's padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import mlx.core as mx

from .convolution import Conv, ConvTranspose, Lstm, Residual, padding
from .rows import row_by_row


class Stream(Protocol):
    """A layer at work: [B,n,C] and whether it is the last part -> what is final by now."""

    def __call__(self, x: mx.array, last: bool) -> mx.array:
        """Continue the signal."""


class ConvStream:
    """A convolution, stride 1. Its outputs are final `right` samples behind its input, the padding's share there."""

    def __init__(self, layer: Conv) -> None:
        if layer.stride != 1:
            raise ValueError(f"stride {layer.stride} is not streamed")
        self.layer = layer
        self.left, self.right = padding(layer.weight.shape[1], 1)
        self.state: mx.array | None = None

    def __call__(self, x: mx.array, last: bool) -> mx.array:
        """Continue the signal."""
        return self.add(x, last, None)

    def add(self, x: mx.array, last: bool, residual: mx.array | None) -> mx.array:
        """Continue the signal; `residual` [B,n',N] is added to what comes out, of which there are n'."""
        x = self._padded(x, last)
        state = x[:, :0] if self.state is None else self.state
        y, self.state = row_by_row(self.layer.step, x, state, *([] if residual is None else [residual]))
        return y

    def ready(self, samples: int, last: bool) -> int:
        """Return how many outputs the next `samples` will complete."""
        seen = self.left if self.state is None else self.state.shape[1]
        return self.layer.complete(seen + samples + (self.right if last else 0))

    def _padded(self, x: mx.array, last: bool) -> mx.array:
        if self.layer.pad_mode != "reflect":
            sides = (self.left if self.state is None else 0, self.right if last else 0)
            return mx.pad(x, [(0, 0), sides, (0, 0)])
        parts = [x]
        if self.state is None:
            if last:
                return self.layer.padded(x)
            if x.shape[1] <= self.left:
                raise ValueError(f"the first part has {x.shape[1]} samples, no more than the padding's {self.left}")
            parts = [x[:, 1 : self.left + 1][:, ::-1], x]
        elif last:
            seen = mx.concatenate([self.state, x], axis=1)
            parts = [x, seen[:, seen.shape[1] - 1 - self.right : seen.shape[1] - 1][:, ::-1]]
        return mx.concatenate([part for part in parts if part.shape[1]], axis=1)


class TransposedStream:
    """A transposed convolution: outputs are final once the next input sample has added its share."""

    def __init__(self, layer: ConvTranspose) -> None:
        self.layer = layer
        self.left, _ = padding(layer.weight.shape[1], layer.stride)
        self.state: mx.array | None = None

    def __call__(self, x: mx.array, last: bool) -> mx.array:
        """Continue the signal."""
        begun = [] if self.state is None else [self.state]
        y, self.state = row_by_row(self.layer.step, x, *begun)
        if last:
            y = mx.concatenate([y, self.state[:, : self.left] + self.layer.bias], axis=1)
        return y if begun else y[:, self.left :]


class ResidualStream:
    """A residual block; it keeps the input that its convolutions still hold back."""

    def __init__(self, block: Residual) -> None:
        self.first, self.second = ConvStream(block.first), ConvStream(block.second)
        self.held: mx.array | None = None

    def __call__(self, x: mx.array, last: bool) -> mx.array:
        """Continue the signal."""
        held = x if self.held is None else mx.concatenate([self.held, x], axis=1)
        inner = self.first(x, last)
        count = self.second.ready(inner.shape[1], last)
        self.held = held[:, count:]
        return self.second.add(inner, last, held[:, :count])


class LstmStream:
    """The LSTM; it holds nothing back. Its rows run together: none depends on the others."""

    def __init__(self, layer: Lstm) -> None:
        self.layer = layer
        self.state: Sequence[mx.array] = ()

    def __call__(self, x: mx.array, last: bool) -> mx.array:
        """Continue the signal."""
        y, self.state = self.layer.step(x, self.state)
        return y


def of(layer: object) -> Stream:
    """Return a stream through a layer, from the beginning of a signal."""
    if isinstance(layer, Residual):
        return ResidualStream(layer)
    if isinstance(layer, ConvTranspose):
        return TransposedStream(layer)
    if isinstance(layer, Lstm):
        return LstmStream(layer)
    assert isinstance(layer, Conv)
    return ConvStream(layer)
