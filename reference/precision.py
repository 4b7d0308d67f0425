"""Which dtype the plain MLX operations should compute in."""

from __future__ import annotations

import mlx.core as mx


def on_cpu() -> bool:
    """Tell whether MLX computes on the CPU now."""
    return bool(mx.default_device().type == mx.DeviceType.cpu)


def compute_dtype(stored: mx.Dtype) -> mx.Dtype:
    """Activations keep the bundle's dtype on a GPU; a CPU has no fast 16-bit arithmetic, so float32 there."""
    return mx.float32 if on_cpu() else stored


def cache_dtype(stored: mx.Dtype) -> mx.Dtype:
    """Return the activations' dtype: nothing is rounded on its way into a cache."""
    return compute_dtype(stored)


def weight_dtype(stored: mx.Dtype) -> mx.Dtype:
    """Return the activations' dtype: widening weights at every step would cripple the baseline."""
    return compute_dtype(stored)


def widened(x: mx.array) -> mx.array:
    """`x` in the dtype that plain MLX should see it in.

    MLX's CPU kernels accumulate 16-bit products in 16 bits (errors ten times those of one rounding): widen there.
    """
    return x.astype(mx.float32) if on_cpu() else x
