"""The codec's operations: convolutions and LSTM over signals [B,L,C]."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import mlx.core as mx

from reference.contract import CodecOperation, Weight

from .panels import Panels, stored


def operations(
    extension: Callable[[], ModuleType],
) -> tuple[
    Callable[..., Panels],
    Callable[..., mx.array],
    Callable[..., mx.array],
    Callable[..., tuple[mx.array, mx.array]],
]:
    """Return lay_out, conv1d, conv_transpose1d and lstm of an extension, which is asked for at each call."""

    def lay_out(w: Weight, operation: CodecOperation, *, stride: int = 1) -> Panels:
        """Return weights in panels of outputs, float32, started at once; see `reference.contract.Ops.lay_out`."""
        if isinstance(w, Panels):
            return w
        given = w if isinstance(w, mx.array) else w.plain()
        axes = 2 if operation == "lstm" else 3
        if given.ndim != axes or (operation == "lstm" and given.shape[0] != 4 * given.shape[1]) or stride < 1:
            raise ValueError(
                f"w {given.shape} and stride={stride} do not fit {operation}; w must be float [N,k,C], for an LSTM "
                "[4C,C], with stride >= 1"
            )
        return Panels.of(extension(), given, operation, stride)

    def conv1d(
        x: mx.array,
        w: Weight,
        bias: mx.array,
        *,
        stride: int = 1,
        elu: bool = False,
        residual: mx.array | None = None,
    ) -> mx.array:
        """Compute residual + conv(elu(x)) + bias, unpadded; see `reference.contract.Ops.conv1d`."""
        try:
            (data,), shape = stored("conv1d", 0, w)
            out: mx.array = extension().conv1d(x, data, shape, bias, stride, elu, residual)
            return out
        except (ValueError, TypeError) as e:
            extra = "" if residual is None else f", residual {_told(residual)}"
            raise ValueError(
                f"x {_told(x)}, w {_told(w)}, bias {_told(bias)} and stride={stride}{extra} do not fit; they must be "
                "float [B,L,C], [N,k,C] and [N] with stride >= 1 and L >= k, the residual of the result's shape"
            ) from e

    def conv_transpose1d(x: mx.array, w: Weight, bias: mx.array, *, stride: int, elu: bool = False) -> mx.array:
        """Compute the full transposed convolution of elu(x), plus bias.

        See `reference.contract.Ops.conv_transpose1d`.
        """
        try:
            (data,), shape = stored("conv_transpose1d", stride, w)
            out: mx.array = extension().conv_transpose1d(x, data, shape, bias, stride, elu)
            return out
        except (ValueError, TypeError) as e:
            raise ValueError(
                f"x {_told(x)}, w {_told(w)}, bias {_told(bias)} and stride={stride} do not fit; they must be float "
                "[B,L,C], [N,k,C] and [N] with stride >= 1"
            ) from e

    def lstm(
        x: mx.array, w_ih: Weight, w_hh: Weight, bias: mx.array, state: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Run one LSTM layer from a state, gates i, f, g, o; see `reference.contract.Ops.lstm`."""
        try:
            maps, shape = stored("lstm", 0, w_ih, w_hh)
            out, after = extension().lstm(x, *maps, shape, bias, state)
            return out, after
        except (ValueError, TypeError) as e:
            given = "" if state is None else f", state {_told(state)}"
            raise ValueError(
                f"x {_told(x)}, w_ih {_told(w_ih)}, w_hh {_told(w_hh)} and bias {_told(bias)}{given} do not fit; they "
                "must be float [B,L,C], [4C,C], [4C,C] and [4C], the state float32 [2,B,C]"
            ) from e

    return lay_out, conv1d, conv_transpose1d, lstm


def _told(a: Weight) -> str:
    """Return the shape, and the dtype of an array, for a message."""
    return f"{a.shape} {a.dtype}" if isinstance(a, mx.array) else f"{a.shape}"
