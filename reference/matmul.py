"""Projections: packed (INT4, INT8) and dense, with the layer norm before them and the epilogue after."""

from __future__ import annotations

import math

import mlx.core as mx

from .arguments import check_int4_matmul, check_linear
from .precision import widened

Norm = tuple[mx.array, mx.array, float]


def gelu(x: mx.array) -> mx.array:
    """x · Phi(x), exact (erf), as upstream's transformer uses it."""
    return x * (1 + mx.erf(x / math.sqrt(2))) / 2


def _epilogue(
    y: mx.array, bias: mx.array | None, activation: str | None, residual: mx.array | None, dtype: mx.Dtype
) -> mx.array:
    if bias is not None:
        y = y + bias
    if activation == "gelu":
        y = gelu(y)
    if residual is not None:
        y = residual + y
    return y.astype(dtype)


def _prologue(x: mx.array, norm: Norm | None) -> mx.array:
    x = widened(x)
    return x if norm is None else mx.fast.layer_norm(x, *norm)


def int4_matmul(
    x: mx.array,
    w: mx.array,
    scales: mx.array,
    biases: mx.array,
    *,
    group_size: int = 64,
    bits: int = 4,
    bias: mx.array | None = None,
    activation: str | None = None,
    residual: mx.array | None = None,
    norm: Norm | None = None,
) -> mx.array:
    """residual + activation(norm(x) · dequant(w)^T + bias); see `reference.contract.Ops.int4_matmul`."""
    check_int4_matmul(
        x, w, scales, biases, group_size=group_size, bits=bits, bias=bias, activation=activation, residual=residual,
        norm=norm,
    )
    y = mx.quantized_matmul(
        _prologue(x, norm), w, scales=scales, biases=biases, transpose=True, group_size=group_size, bits=bits
    )
    return _epilogue(y, bias, activation, residual, x.dtype)


def linear(
    x: mx.array,
    w: mx.array,
    *,
    bias: mx.array | None = None,
    activation: str | None = None,
    residual: mx.array | None = None,
    norm: Norm | None = None,
) -> mx.array:
    """residual + activation(norm(x) · w^T + bias) with dense w; see `reference.contract.Ops.linear`."""
    check_linear(x, w, bias=bias, activation=activation, residual=residual, norm=norm)
    y = _prologue(x, norm) @ widened(w).T
    return _epilogue(y, bias, activation, residual, x.dtype)
