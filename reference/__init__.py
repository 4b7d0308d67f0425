"""The operations of `reference.contract.Ops` in plain MLX: the definition of right, and the baseline of `bench`.

Stock MLX at its best, nothing hand-written: `mx.quantized_matmul`, `mx.fast.scaled_dot_product_attention`, `mx.conv1d`.
"""

from __future__ import annotations

from . import forms, matmul
from .arguments import check_packed
from .attention import attention
from .attention import cross_attention as _cross_attention
from .attention import prefix_attention as _prefix_attention
from .cache import write_cache
from .codec import conv1d, conv_transpose1d, lay_out, lstm
from .contract import Packed
from .precision import cache_dtype, compute_dtype, weight_dtype
from .self_attention import self_attention as _self_attention

name = "reference"

int4_matmul = forms.int4_matmul(matmul.int4_matmul)
linear = forms.linear(matmul.linear)
prefix_attention = forms.prefix_attention(_prefix_attention)
cross_attention = forms.cross_attention(_cross_attention)
self_attention = forms.self_attention(_self_attention)


def pack(weight: Packed) -> Packed:
    """Return the matrix as `mx.quantize` lays it out, which `mx.quantized_matmul` takes."""
    weight = weight.plain()
    check_packed(weight)
    return weight


__all__ = [
    "attention",
    "cache_dtype",
    "compute_dtype",
    "conv1d",
    "conv_transpose1d",
    "cross_attention",
    "int4_matmul",
    "lay_out",
    "linear",
    "lstm",
    "name",
    "pack",
    "prefix_attention",
    "self_attention",
    "weight_dtype",
    "write_cache",
]
