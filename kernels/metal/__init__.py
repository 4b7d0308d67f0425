"""The fused Metal kernels: `on_gpu()` runs them through MLX, `on_interpreter()` runs the same source on a CPU.

Fused here: the packed product (decode and prefill), gated prefix attention and attention to the text. Where stock MLX
is strong (dense products, plain attention, the codec's convolutions and LSTM) the operations are the reference's.
"""

from __future__ import annotations

import functools
from typing import Any

import mlx.core as mx

import reference
from reference import forms

from .attention import cross_attention, prefix_attention
from .engine import Engine, Launch
from .int4_matmul import int4_matmul

__all__ = ["Engine", "Launch", "MetalOps", "on_gpu", "on_interpreter"]


class MetalOps:
    """`reference.contract.Ops` on one engine.

    On a GPU all operations are lazy and may stand in `mx.compile`. The interpreter evaluates as it is called, so its
    operations cannot be traced by `mx.compile`.
    """

    def __init__(self, name: str, engine: Engine):
        self.name = name
        self.engine = engine
        self.int4_matmul = forms.int4_matmul(functools.partial(int4_matmul, engine))
        self.prefix_attention = forms.prefix_attention(functools.partial(prefix_attention, engine))
        self.cross_attention = forms.cross_attention(functools.partial(cross_attention, engine))

    pack = staticmethod(reference.pack)
    linear = staticmethod(reference.linear)
    attention = staticmethod(reference.attention)
    write_cache = staticmethod(reference.write_cache)
    conv1d = staticmethod(reference.conv1d)
    conv_transpose1d = staticmethod(reference.conv_transpose1d)
    lstm = staticmethod(reference.lstm)

    # On a GPU activations keep the bundle's dtype. Where MLX computes on a CPU (under the interpreter) they are float32
    # as the reference's are, so that the tokens of a whole edit can be compared.
    compute_dtype = staticmethod(reference.compute_dtype)

    cache_dtype = staticmethod(reference.cache_dtype)

    def weight_dtype(self, stored: mx.Dtype) -> mx.Dtype:
        """Weights keep the bundle's dtype: bytes are what a decode step waits for."""
        return stored


def on_gpu() -> MetalOps:
    """Return the kernels on this machine's Metal GPU."""
    return MetalOps("metal", Engine(mx.fast.metal_kernel, probe=True))


def on_interpreter(**options: Any) -> MetalOps:
    """Return the kernels in the interpreter; `options` are those of its launches: check, strict, seed, fp."""
    from .. import interpreter

    return MetalOps("interpreter", Engine(interpreter.metal_kernel, options))
