"""The dtypes that the plain MLX operations compute in."""

from __future__ import annotations

import mlx.core as mx


def on_cpu() -> bool:
    """Tell whether MLX computes on the CPU now."""
    return bool(mx.default_device().type == mx.DeviceType.cpu)


def compute_dtype(stored: mx.Dtype) -> mx.Dtype:
    """Return float32 on a CPU, which has no fast 16-bit arithmetic; elsewhere the bundle's dtype."""
    return mx.float32 if on_cpu() else stored


def cache_dtype(stored: mx.Dtype) -> mx.Dtype:
    """Return the dtype of kept keys and values: the activations' own, so storing rounds nothing."""
    return compute_dtype(stored)


def weight_dtype(stored: mx.Dtype) -> mx.Dtype:
    """Return the dtype of dense weights: the activations' own, since widening them at every step would be slow."""
    return compute_dtype(stored)


def widened(x: mx.array) -> mx.array:
    """Return `x` as float32 on a CPU, else unchanged.

    MLX's CPU kernels accumulate 16-bit products in 16 bits, with errors ten times those of one rounding.
    """
    return x.astype(mx.float32) if on_cpu() else x
