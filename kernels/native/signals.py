"""The codec's operations: convolutions and LSTM over signals [B,L,C]."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

import mlx.core as mx


def operations(
    extension: Callable[[], ModuleType],
) -> tuple[Callable[..., mx.array], Callable[..., mx.array], Callable[..., tuple[mx.array, mx.array]]]:
    """Return conv1d, conv_transpose1d and lstm of an extension, which is asked for at each call."""

    def conv1d(
        x: mx.array,
        w: mx.array,
        bias: mx.array,
        *,
        stride: int = 1,
        elu: bool = False,
        residual: mx.array | None = None,
    ) -> mx.array:
        """residual + conv(elu(x)) + bias, unpadded; see `reference.contract.Ops.conv1d`."""
        try:
            out: mx.array = extension().conv1d(x, w, bias, stride, elu, residual)
            return out
        except (ValueError, TypeError) as e:
            _explain_signal(e, x, w, bias, stride, residual)

    def conv_transpose1d(x: mx.array, w: mx.array, bias: mx.array, *, stride: int, elu: bool = False) -> mx.array:
        """Full transposed convolution of elu(x), plus bias; see `reference.contract.Ops.conv_transpose1d`."""
        try:
            out: mx.array = extension().conv_transpose1d(x, w, bias, stride, elu)
            return out
        except (ValueError, TypeError) as e:
            _explain_signal(e, x, w, bias, stride, None)

    def lstm(
        x: mx.array, w_ih: mx.array, w_hh: mx.array, bias: mx.array, state: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Run one LSTM layer from a state, gates i, f, g, o; see `reference.contract.Ops.lstm`."""
        try:
            out, after = extension().lstm(x, w_ih, w_hh, bias, state)
            return out, after
        except (ValueError, TypeError) as e:
            given = "" if state is None else f", state {state.shape} {state.dtype}"
            raise ValueError(
                f"x {x.shape} {x.dtype}, w_ih {w_ih.shape}, w_hh {w_hh.shape} and bias {bias.shape}{given} do not fit; "
                "they must be float [B,L,C], [4C,C], [4C,C] and [4C], the state float32 [2,B,C]"
            ) from e

    return conv1d, conv_transpose1d, lstm


def _explain_signal(
    error: Exception, x: mx.array, w: mx.array, bias: mx.array, stride: int, residual: mx.array | None
) -> NoReturn:
    extra = "" if residual is None else f", residual {residual.shape} {residual.dtype}"
    raise ValueError(
        f"x {x.shape} {x.dtype}, w {w.shape} {w.dtype}, bias {bias.shape} and stride={stride}{extra} do not fit; "
        "they must be float [B,L,C], [N,k,C] and [N] with stride >= 1 and L >= k, the residual of the result's shape"
    ) from error
