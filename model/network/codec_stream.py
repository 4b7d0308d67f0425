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


class LayerStream(Protocol):
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
        return self.windows(self.seen(x, last))

    def seen(self, x: mx.array, last: bool) -> mx.array:
        """Return what the next windows see: what is left of before, the next samples, and padding at the ends."""
        if self.layer.pad_mode != "reflect":
            sides = (self.left if self.state is None else 0, self.right if last else 0)
            parts = [mx.pad(x, [(0, 0), sides, (0, 0)])]
        elif self.state is None:
            if last:
                return self.layer.padded(x)
            if x.shape[1] <= self.left:
                raise ValueError(
                    f"the first part has {x.shape[1]} samples, no more than the padding's {self.left}; give a longer "
                    "first part"
                )
            parts = [x[:, 1 : self.left + 1][:, ::-1], x]
        elif last:
            end = x if x.shape[1] > self.right else mx.concatenate([self.state, x], axis=1)
            parts = [x, end[:, end.shape[1] - 1 - self.right : end.shape[1] - 1][:, ::-1]]
        else:
            parts = [x]
        whole = [part for part in ([] if self.state is None else [self.state]) + parts if part.shape[1]]
        return whole[0] if len(whole) == 1 else mx.concatenate(whole, axis=1)

    def windows(self, seen: mx.array) -> mx.array:
        """Compute the outputs whose windows are complete, and keep what later ones need."""
        y, self.state = row_by_row(self.layer.step, seen)
        return y


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
        if last and self.left:
            y = mx.concatenate([y, row_by_row(self.layer.rest, self.state)[:, : self.left]], axis=1)
        return y if begun else y[:, self.left :]


class ResidualStream:
    """A residual block. Its second convolution has one tap: only the first holds samples back."""

    def __init__(self, block: Residual) -> None:
        self.first, self.second = ConvStream(block.first), block.second
        if self.second.weight.shape[1] != 1:
            raise ValueError(f"a second convolution of {self.second.weight.shape[1]} taps is not streamed")

    def __call__(self, x: mx.array, last: bool) -> mx.array:
        """Continue the signal."""
        seen = self.first.seen(x, last)
        inner = self.first.windows(seen)
        middle = seen[:, self.first.left : self.first.left + inner.shape[1]]
        return row_by_row(self._add, inner, middle)

    def _add(self, inner: mx.array, x: mx.array) -> mx.array:
        return self.second.step(inner, residual=x)[0]


class LstmStream:
    """The LSTM; it holds nothing back. Its rows run together: none depends on the others."""

    def __init__(self, layer: Lstm) -> None:
        self.layer = layer
        self.state: Sequence[mx.array] = ()

    def __call__(self, x: mx.array, last: bool) -> mx.array:
        """Continue the signal."""
        y, self.state = self.layer.step(x, self.state)
        return y


def of(layer: object) -> LayerStream:
    """Return a stream through a layer, from the beginning of a signal."""
    if isinstance(layer, Residual):
        return ResidualStream(layer)
    if isinstance(layer, ConvTranspose):
        return TransposedStream(layer)
    if isinstance(layer, Lstm):
        return LstmStream(layer)
    assert isinstance(layer, Conv)
    return ConvStream(layer)
