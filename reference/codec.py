"""The codec's primitives: convolutions on channels-last signals and the LSTM."""

from __future__ import annotations

import mlx.core as mx

from .contract import CodecOperation, Weight
from .precision import widened


def _elu(x: mx.array) -> mx.array:
    return mx.where(x > 0, x, mx.expm1(mx.minimum(x, 0)))


def _plain(w: Weight) -> mx.array:
    return w if isinstance(w, mx.array) else w.plain()


def lay_out(w: Weight, operation: CodecOperation, *, stride: int = 1) -> mx.array:
    """Return the weights as they are."""
    return _plain(w)


def conv1d(
    x: mx.array, w: Weight, bias: mx.array, *, stride: int = 1, elu: bool = False, residual: mx.array | None = None
) -> mx.array:
    """Compute residual + conv(elu(x)) + bias, unpadded; see `reference.contract.Ops.conv1d`."""
    y = mx.conv1d(widened(_elu(x) if elu else x), widened(_plain(w)), stride=stride) + bias
    return (y if residual is None else residual + y).astype(x.dtype)


def conv_transpose1d(x: mx.array, w: Weight, bias: mx.array, *, stride: int, elu: bool = False) -> mx.array:
    """Compute the full transposed convolution of elu(x), plus bias; see `reference.contract.Ops.conv_transpose1d`."""
    return (mx.conv_transpose1d(widened(_elu(x) if elu else x), widened(_plain(w)), stride=stride) + bias).astype(
        x.dtype
    )


def lstm(
    x: mx.array, w_ih: Weight, w_hh: Weight, bias: mx.array, state: mx.array | None = None
) -> tuple[mx.array, mx.array]:
    """Run one LSTM layer from a state, gates i, f, g, o; see `reference.contract.Ops.lstm`."""
    gates = widened(x) @ widened(_plain(w_ih)).T + bias
    w_hh_t = widened(_plain(w_hh)).T
    if state is None:
        state = mx.zeros((2, x.shape[0], x.shape[2]), dtype=mx.float32)
    hidden, cell = (part.squeeze(0).astype(gates.dtype) for part in mx.split(state, 2))
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = mx.split(gates[:, t] + hidden @ w_hh_t, 4, axis=-1)
        cell = mx.sigmoid(f) * cell + mx.sigmoid(i) * mx.tanh(g)
        hidden = mx.sigmoid(o) * mx.tanh(cell)
        out.append(hidden)
    return mx.stack(out, axis=1).astype(x.dtype), mx.stack([hidden, cell]).astype(mx.float32)
