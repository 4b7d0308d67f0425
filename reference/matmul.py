"""Projections: packed (INT4, INT8) and dense, with the layer norm before them and the epilogue after."""

from __future__ import annotations

import math

import mlx.core as mx

from .arguments import check_int4_matmul, check_linear
from .contract import Epilogue, Norm, Packed
from .precision import widened


def gelu(x: mx.array) -> mx.array:
    """Compute x · Phi(x), exact (erf), as upstream's transformer uses it."""
    return x * (1 + mx.erf(x / math.sqrt(2))) / 2


def _finished(y: mx.array, epilogue: Epilogue, dtype: mx.Dtype) -> mx.array:
    if epilogue.bias is not None:
        y = y + epilogue.bias
    if epilogue.activation == "gelu":
        y = gelu(y)
    if epilogue.residual is not None:
        y = epilogue.residual + y
    return y.astype(dtype)


def _normed(x: mx.array, norm: Norm | None) -> mx.array:
    x = widened(x)
    return x if norm is None else mx.fast.layer_norm(x, *norm)


def int4_matmul(x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> mx.array:
    """Compute residual + activation(norm(x) · dequant(w)^T + bias); see `reference.contract.Ops.int4_matmul`."""
    weight = weight.plain()
    check_int4_matmul(x, weight, norm, epilogue)
    y = mx.quantized_matmul(
        _normed(x, norm), weight.w, scales=weight.scales, biases=weight.biases, transpose=True,
        group_size=weight.group_size, bits=weight.bits,
    )  # fmt: skip
    return _finished(y, epilogue, x.dtype)


def linear(x: mx.array, w: mx.array, norm: Norm | None, epilogue: Epilogue) -> mx.array:
    """Compute residual + activation(norm(x) · w^T + bias) with dense w; see `reference.contract.Ops.linear`."""
    check_linear(x, w, norm, epilogue)
    return _finished(_normed(x, norm) @ widened(w).T, epilogue, x.dtype)
