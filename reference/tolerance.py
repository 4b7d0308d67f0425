"""Bounds on a right answer's distance from the float64 oracle, from the arithmetic of the contract, stated once, here.

The contract: 16- or 32-bit inputs, float32 sums, one rounding on store. A backend on stock MLX may round its operands
and intermediate results to the inputs' dtype as well, so each of those roundings is counted too. Errors of a sum of K
products behave like a random walk, hence sqrt(K) and 2-norms; `SIGMAS` turns that into a bound that 1e6 draws keep.
Nothing here is fitted to a backend. The one declared exception: a backend may round the activations of a packed matmul
to `activation_bits` (native decodes with 16-bit integers), which costs half a step of max|x| / 2^(bits-1) each.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from reference import oracle
from reference.oracle import Array, Float64

SIGMAS = 5.0
EPS32 = 2.0**-23
EPS = {mx.float32: 2.0**-23, mx.float16: 2.0**-10, mx.bfloat16: 2.0**-7}
TINY = {mx.float32: 1e-37, mx.float16: 2.0**-24, mx.bfloat16: 1e-37}  # the step of a subnormal


def _norm(a: Float64) -> Float64:
    return np.asarray(np.sqrt((a**2).sum(axis=-1)), dtype=np.float64)


def rounding(dtype: mx.Dtype, *magnitudes: Float64 | float) -> Float64:
    """Return half a unit in the last place of every intermediate result, as if each were rounded to `dtype`."""
    return np.asarray(sum(EPS[dtype] / 2 * np.abs(m) for m in magnitudes) + TINY[dtype], dtype=np.float64)


def normalized(x: Array, norm: oracle.Norm | None, dtype: mx.Dtype) -> tuple[Float64, Float64]:
    """Return norm(x) and each element's error: cancellation of the mean in float32, then one rounding."""
    wide = oracle.float64(x)
    if norm is None:
        return wide, np.zeros_like(wide)
    y = oracle.layer_norm(wide, norm)
    sigma = np.sqrt(wide.var(axis=-1, keepdims=True) + norm[2])
    weight, bias = np.abs(oracle.float64(norm[0])), np.abs(oracle.float64(norm[1]))
    relative = SIGMAS * EPS32 * np.abs(wide).max(axis=-1, keepdims=True) / sigma
    # A relative error of sigma acts on the centered value, one of the mean on all elements alike.
    error = weight * relative * (1 + np.abs(wide - wide.mean(axis=-1, keepdims=True)) / sigma)
    return y, error + EPS[dtype] * (np.abs(y) + bias)


def product(
    x: Float64, x_error: Float64, w: Float64, *, dtype: mx.Dtype, activation_bits: int | None = None
) -> Float64:
    """Bound the error of x · w^T.

    x [..., K] comes with its own error; w [N, K] are the weights' magnitudes before cancellation.
    """
    k = x.shape[-1]
    accumulate = EPS32 * np.sqrt(k) * _norm(x)[..., None] * _norm(w)
    # Operands may be rounded to dtype: independent errors, so the 2-norm of the products. (x²)·(w²)^T is its square.
    operands = EPS[dtype] * np.sqrt((x**2) @ (w**2).T)
    step = 0.0 if activation_bits is None else np.abs(x).max(axis=-1)[..., None] / 2 ** (activation_bits - 1) / 2
    return np.asarray(
        SIGMAS * (accumulate + operands + step * _norm(w)) + np.abs(x_error) @ np.abs(w).T, dtype=np.float64
    )


def matmul(
    x: Array,
    w: Float64,
    weight_magnitude: Float64,
    *,
    dtype: mx.Dtype,
    bias: Array | None = None,
    activation: str | None = None,
    residual: Array | None = None,
    norm: oracle.Norm | None = None,
    activation_bits: int | None = None,
) -> Float64:
    """Bound the error of residual + activation(norm(x) · w^T + bias) in `dtype`."""
    wide, x_error = normalized(x, norm, dtype)
    y = wide @ w.T
    error = product(wide, x_error, weight_magnitude, dtype=dtype, activation_bits=activation_bits)
    parts = [y, y if bias is None else y + oracle.float64(bias)]
    error = error + rounding(dtype, *parts)
    if activation == "gelu":
        error = 1.13 * error + 4 * rounding(dtype, parts[-1])  # max |gelu'| is 1.129; x, erf, 1+erf, product
    if residual is not None:
        error = error + rounding(dtype, oracle.float64(residual), oracle.float64(residual) + parts[-1])
    return error


def attention(
    q: Float64, k: Float64, v: Float64, *, scale: float, dtype: mx.Dtype, q_error: Float64 | float = 0.0
) -> Float64:
    """Bound the error of one softmax attention, a bound per row of the result; k and v hold the visible keys alone.

    q [B,H,T,D], k, v [B,H,S,D]. A score is off by `delta`, so a weight by the factor exp(±delta); weights sum to 1, so
    the result is off by at most 2·delta·max|v|, and rounding of weights and sums adds eps·max|v|.
    """
    d, s = q.shape[-1], k.shape[-2]
    q_norm, k_norm = _norm(np.abs(q))[..., None], _norm(k).max(axis=-1)[..., None, None]
    delta = np.abs(scale) * q_norm * k_norm * SIGMAS * (EPS32 * np.sqrt(d) + EPS[dtype] / np.sqrt(d))
    delta = delta + np.abs(scale) * k_norm * (_norm(np.broadcast_to(q_error, q.shape))[..., None])
    # exp and log-sum in float32, relative to the largest score
    delta = delta + EPS32 * (4 + np.abs(scale) * q_norm * k_norm)
    top = np.abs(v).max(axis=(-2, -1))[..., None, None]
    return np.asarray(top * (2 * delta + SIGMAS * EPS32 * np.sqrt(s) + 2 * EPS[dtype]) + TINY[dtype], dtype=np.float64)


def problem(actual: mx.array, expected: Float64, tolerance: Float64, *, dtype: mx.Dtype) -> str:
    """Return what is wrong with a result, with its worst element, or "".

    Nothing is wrong if |actual - expected| <= tolerance everywhere, in the right dtype.
    """
    if actual.dtype != dtype:
        return f"result is {actual.dtype}, want {dtype}"
    if actual.shape != expected.shape:
        return f"result has shape {actual.shape}, want {expected.shape}"
    got = oracle.float64(actual)
    if not np.isfinite(got).all():
        return f"{(~np.isfinite(got)).sum()} of {got.size} elements are not finite"
    error, tolerance = np.abs(got - expected), np.broadcast_to(tolerance, expected.shape)
    off = error > tolerance
    if not off.any():
        return ""
    excess = np.where(off, error / np.maximum(tolerance, np.finfo(np.float64).tiny), 0)
    worst = np.unravel_index(int(np.argmax(excess)), error.shape)
    return (
        f"at {tuple(map(int, worst))}: got {got[worst]}, want {expected[worst]}, off by {error[worst]:.3e}, "
        f"tolerance {tolerance[worst]:.3e}; {off.sum()} of {error.size} elements are off"
    )


def check(actual: mx.array, expected: Float64, tolerance: Float64, *, dtype: mx.Dtype) -> None:
    """Raise AssertionError, with what `problem` says, unless the result is right."""
    if found := problem(actual, expected, tolerance, dtype=dtype):
        raise AssertionError(found)
