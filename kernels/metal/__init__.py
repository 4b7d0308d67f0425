"""The fused Metal kernels: `on_gpu()` runs them through MLX, `on_interpreter()` runs the same source on a CPU.

Fused here: the packed product (decode and prefill), gated prefix attention and attention to the text. Where stock MLX
is strong (dense products, plain attention, the codec's convolutions and LSTM) the operations are the reference's.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

import reference
from reference import forms
from reference.contract import Packed, Prefix
from reference.self_attention import composed

from .. import tuning
from .choices import ANY_ROWS, NORMS, Choices, Route, default
from .cores import gpu_cores
from .cross_attention import cross_attention
from .engine import Engine, Launch
from .int4_matmul import int4_matmul
from .prefix_attention import prefix_attention
from .prepared import Prepared
from .self_attention import self_attention

BUFFER_LIMITS = ("MLX_MAX_OPS_PER_BUFFER", "MLX_MAX_MB_PER_BUFFER")
"""Environment variables that limit the work that MLX puts into a command buffer before it hands it to the GPU."""

__all__ = ["Choices", "Engine", "Launch", "MetalOps", "Prepared", "on_gpu", "on_interpreter"]


class MetalOps:
    """The operations of `reference.contract.Ops` on one engine.

    On a GPU all operations are lazy and may stand in `mx.compile`. The interpreter evaluates as it is called, so its
    operations cannot be traced by `mx.compile`.
    """

    def __init__(self, name: str, engine: Engine):
        self.name = name
        self.engine = engine
        self.int4_matmul = forms.int4_matmul(functools.partial(int4_matmul, engine))
        self.prefix_attention = forms.prefix_attention(functools.partial(prefix_attention, engine))
        self.cross_attention = forms.cross_attention(functools.partial(cross_attention, engine))
        self.self_attention = forms.self_attention(self._self_attention)
        self.missing, self.compile = engine.missing, engine.compile

    def pack(self, weight: Packed) -> Packed:
        """Return the matrix as `mx.quantize` lays it out, which remembers its planned launches and norm constants."""
        plain = reference.pack(weight)
        return Prepared(plain.w, plain.scales, plain.biases, plain.group_size, plain.bits)

    def _self_attention(
        self, qkv: mx.array, cache: mx.array, position: int, prefix: Prefix | None, scale: float, rows: slice,
        query_row: int,
    ) -> tuple[mx.array, mx.array]:  # fmt: skip
        if prefix is None:  # attention to the cache alone is stock MLX's
            return composed(self, qkv, cache, position, prefix, scale, rows, query_row)
        return self_attention(self.engine, qkv, cache, position, prefix, scale, rows, query_row)

    linear = staticmethod(reference.linear)
    attention = staticmethod(reference.attention)
    write_cache = staticmethod(reference.write_cache)
    lay_out = staticmethod(reference.lay_out)
    conv1d = staticmethod(reference.conv1d)
    conv_transpose1d = staticmethod(reference.conv_transpose1d)
    lstm = staticmethod(reference.lstm)

    # On a GPU activations keep the bundle's dtype. Where MLX computes on a CPU (under the interpreter) they are float32
    # as the reference's are, so that the tokens of a whole edit can be compared.
    compute_dtype = staticmethod(reference.compute_dtype)

    cache_dtype = staticmethod(reference.cache_dtype)

    def weight_dtype(self, stored: mx.Dtype) -> mx.Dtype:
        """Return the bundle's dtype: bytes are what a decode step waits for."""
        return stored


def on_gpu(tuned: Mapping[str, Any] | None = None) -> MetalOps:
    """Return the kernels on this machine's Metal GPU, with the choices of `tuned` in place of the defaults.

    Its "environment" holds MLX's limits of a command buffer, which MLX reads when it first uses the GPU.
    """
    choices, knobs = chosen(), dict(tuned or {})
    for name, value in dict(knobs.pop("environment", {})).items():
        if name in BUFFER_LIMITS:
            os.environ.setdefault(name, str(value))
    try:
        choices = choices.changed(knobs)
    except ValueError as e:
        tuning.warn_unusable("metal", e)
    return MetalOps("metal", Engine(mx.fast.metal_kernel, probe=True, choices=choices))


def chosen() -> Choices:
    """Return the choices for this machine's GPU: the defaults of its generation."""
    macos = tuple(int(part) for part in platform.mac_ver()[0].split(".") if part.isdigit())
    architecture = str(mx.device_info().get("architecture", ""))
    return default(architecture, macos, str(vars(mx)["__version__"]), gpu_cores(architecture))


def knobs() -> dict[str, list[Any]]:
    """Return the knobs that `bench tune` may set, each with its values, the default first."""
    now = chosen()
    stock = [list(now.stock), []]
    for operation, first, last in (
        ("int4_matmul", 2, 2), ("int4_matmul", 9, 16), ("int4_matmul", 17, ANY_ROWS), ("cross_attention", 1, 8),
        ("prefix_attention", 1, ANY_ROWS),
    ):  # fmt: skip
        stock.append([*now.stock, Route(operation, first, last)])
    return {
        "norm": [now.norm, *(n for n in NORMS if n != now.norm)],
        "outputs": [4, 2, 8],
        "product_simdgroups": [2, 4, 8],
        "norm_simdgroups": [8, 4, 2],
        "attention_simdgroups": [8, 4, 16],
        "attention_splits": [0, 1, 2, 4],
        "stock": [[list(route) for route in routes] for routes in stock],
        "environment": [{}, *(dict(zip(BUFFER_LIMITS, limits)) for limits in ((200, 200), (1000, 400)))],
    }


def on_interpreter(**options: Any) -> MetalOps:
    """Return the kernels in the interpreter; `options` are those of its launches: check, strict, seed, fp."""
    from .. import interpreter

    return MetalOps("interpreter", Engine(interpreter.metal_kernel, options))
