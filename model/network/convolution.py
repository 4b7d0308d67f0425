"""The codec's layers: convolutions and LSTM over whole signals, as audiocraft pads them, or on from a state.

Signals are channels-last, [B,n,C]. `step` continues a signal: it takes the state that the call before left (None at the
beginning) and returns what can be told by now, with the state for the next call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from reference.contract import Ops, Weight


@dataclass(frozen=True)
class Conv:
    """A convolution, of ELU(x) in all layers but the first (ELU commutes with the padding)."""

    ops: Ops
    weight: Weight  # [N,k,C]
    bias: mx.array
    stride: int = 1
    elu: bool = True
    pad_mode: str = "reflect"

    def __call__(self, x: mx.array, *, residual: mx.array | None = None) -> mx.array:
        """Convolve a whole signal [B,n,C], padded at both ends: [B,ceil(n/stride),N]."""
        return self._valid(self.padded(x), residual)

    def padded(self, x: mx.array) -> mx.array:
        """Pad a whole signal [B,n,C] at both ends."""
        return pad(x, self.weight.shape[1], self.stride, self.pad_mode)

    def step(
        self, x: mx.array, state: mx.array | None = None, residual: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Continue an unpadded signal: the outputs whose window is complete, and the samples that later ones need."""
        seen = x if state is None else mx.concatenate([state, x], axis=1)
        count = self.complete(seen.shape[1])
        if count == 0:
            return mx.zeros((x.shape[0], 0, self.weight.shape[0]), dtype=x.dtype), seen
        return self._valid(seen, residual), seen[:, count * self.stride :]

    def complete(self, samples: int) -> int:
        """Return how many outputs `samples` of an unpadded signal complete."""
        return max((samples - self.weight.shape[1]) // self.stride + 1, 0)

    def _valid(self, x: mx.array, residual: mx.array | None) -> mx.array:
        return self.ops.conv1d(x, self.weight, self.bias, stride=self.stride, elu=self.elu, residual=residual)


@dataclass(frozen=True)
class ConvTranspose:
    """A transposed convolution of ELU(x), whose kernel is at least as long as its stride."""

    ops: Ops
    weight: Weight  # [N,k,C]
    bias: mx.array
    stride: int

    def __call__(self, x: mx.array) -> mx.array:
        """Convolve a whole signal [B,n,C]: [B,n·stride,N].

        The padding's share of the full output is cut off, the odd sample from the left.
        """
        y = self._full(x)
        left, right = padding(self.weight.shape[1], self.stride)
        return y[:, left : y.shape[1] - right]

    def step(self, x: mx.array, state: mx.array | None = None) -> tuple[mx.array, mx.array]:
        """Continue the full output: its next n·stride samples, and the samples of x that reach those that follow."""
        seen = x if state is None else mx.concatenate([state, x], axis=1)
        before, count = seen.shape[1] - x.shape[1], seen.shape[1]
        kept = min(-(-self.weight.shape[1] // self.stride) - 1, count)
        return self._full(seen)[:, before * self.stride : count * self.stride], seen[:, count - kept :]

    def rest(self, state: mx.array) -> mx.array:
        """Return what the full output has after all samples of x, from the state that the last of them left."""
        if state.shape[1] == 0:
            return mx.zeros((state.shape[0], 0, self.weight.shape[0]), dtype=state.dtype)
        return self._full(state)[:, state.shape[1] * self.stride :]

    def _full(self, x: mx.array) -> mx.array:
        return self.ops.conv_transpose1d(x, self.weight, self.bias, stride=self.stride, elu=True)


@dataclass(frozen=True)
class Residual:
    """A residual block: x + conv1(elu(conv3(elu(x))))."""

    first: Conv
    second: Conv

    def __call__(self, x: mx.array) -> mx.array:
        """Run the block over a whole signal."""
        return self.second(self.first(x), residual=x)


@dataclass(frozen=True)
class Lstm:
    """Stacked LSTM layers with a skip around all of them; without layers the identity."""

    ops: Ops
    layers: Sequence[tuple[Weight, Weight, mx.array]]
    """w_ih, w_hh and bias of each."""

    def __call__(self, x: mx.array) -> mx.array:
        """Run the layers over a whole signal [B,n,C]."""
        return self.step(x)[0]

    def step(self, x: mx.array, state: Sequence[mx.array] = ()) -> tuple[mx.array, list[mx.array]]:
        """Continue a signal: its next frames, and each layer's state [2,B,C] after them."""
        y, after = x, []
        for n, layer in enumerate(self.layers):
            y, left = self.ops.lstm(y, *layer, state=state[n] if state else None)
            after.append(left)
        return (x + y if self.layers else x), after


def padding(kernel: int, stride: int) -> tuple[int, int]:
    """Return the samples to pad on the left and on the right: kernel - stride in all, the odd one on the left."""
    total = kernel - stride
    return total - total // 2, total // 2


def pad(x: mx.array, kernel: int, stride: int, mode: str) -> mx.array:
    """Pad x [B,n,C] as audiocraft's `StreamableConv1d` does, so that a convolution gives ceil(n/stride) outputs.

    kernel - stride zeros or reflections in all, the odd one on the left, and on the right what fills the last window.
    """
    left, right = padding(kernel, stride)
    right += -x.shape[1] % stride
    if mode == "reflect":
        return _reflect(x, left, right)
    return mx.pad(x, [(0, 0), (left, right), (0, 0)])


def _reflect(x: mx.array, left: int, right: int) -> mx.array:
    """Mirror the ends without repeating the edge; a signal no longer than the padding is extended by zeros first."""
    n = x.shape[1]
    extra = max(left, right) - n + 1 if n <= max(left, right) else 0
    if extra:
        x = mx.pad(x, [(0, 0), (0, extra), (0, 0)])
    length = x.shape[1]
    parts = [x[:, 1 : left + 1][:, ::-1], x, x[:, length - 1 - right : length - 1][:, ::-1]]
    padded = mx.concatenate([p for p in parts if p.shape[1]], axis=1)
    return padded[:, : padded.shape[1] - extra]
