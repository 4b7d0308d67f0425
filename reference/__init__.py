"""The operations of `reference.contract.Ops` in plain MLX: the definition of right, and the baseline of `bench`.

Stock MLX at its best, nothing hand-written: `mx.quantized_matmul`, `mx.fast.scaled_dot_product_attention`, `mx.conv1d`.
"""

from __future__ import annotations

from .attention import attention, cross_attention, prefix_attention
from .codec import conv1d, conv_transpose1d, lstm
from .matmul import int4_matmul, linear
from .precision import compute_dtype, weight_dtype

name = "reference"

__all__ = [
    "attention",
    "compute_dtype",
    "conv1d",
    "conv_transpose1d",
    "cross_attention",
    "int4_matmul",
    "linear",
    "lstm",
    "name",
    "prefix_attention",
    "weight_dtype",
]
