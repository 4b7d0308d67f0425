"""Fused operations for Instruct-MusicGen: one public function each, several ways to run it.

`load(name)` gives the operations of one backend as an `Ops`; the functions of this module are those of `load("auto")`.
`auto` is `metal` where Metal is available, else `native`, else the reference with one warning. `interpreter` (the
Metal source run on the CPU) is never chosen by itself: it is for tests and for studying a kernel.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx

if TYPE_CHECKING:
    from reference.contract import Activation, Norm, Ops

BACKENDS = ("metal", "native", "reference", "interpreter")

__all__ = ["BACKENDS", "Activation", "Norm", "Ops", "available", "int4_matmul", "load", "prefix_attention"]


def __getattr__(name: str) -> Any:
    """Return a type of the contract: looked up when used, as the interpreter starts without the reference."""
    if name in ("Activation", "Norm", "Ops"):
        return getattr(importlib.import_module("reference.contract"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class BackendUnavailable(RuntimeError):
    """The backend asked for cannot run here; the message says why and what to do."""


@functools.cache
def load(name: str = "auto") -> Ops:
    """The operations of a backend: "auto", "metal", "native", "reference" or "interpreter".

    Raises ValueError for another name, and BackendUnavailable, with the reason and the fix, where it cannot run here.
    """
    if name == "auto":
        return _best()
    if name not in BACKENDS:
        raise ValueError(f"backend={name!r} is not known; use one of auto, {', '.join(BACKENDS)}")
    if name == "reference":
        return cast("Ops", importlib.import_module("reference"))
    if name == "native":
        reason = importlib.import_module("kernels.native").unavailable()
        if reason:
            raise BackendUnavailable(f"backend 'native' cannot run here: {reason}")
        return cast("Ops", importlib.import_module("kernels.native"))
    if name == "metal" and not mx.metal.is_available():
        raise BackendUnavailable(
            "backend 'metal' cannot run here: this machine has no Metal GPU; use 'native', or 'interpreter' to run the "
            "Metal kernels' source on the CPU"
        )
    metal = importlib.import_module("kernels.metal")
    return cast("Ops", metal.on_gpu() if name == "metal" else metal.on_interpreter())


def available() -> dict[str, str | None]:
    """Each backend with None where it can run here, else the reason why not."""
    out: dict[str, str | None] = {}
    for name in BACKENDS:
        try:
            load(name)
            out[name] = None
        except (BackendUnavailable, ImportError) as e:
            out[name] = str(e)
    return out


def _best() -> Ops:
    if mx.metal.is_available():
        return load("metal")
    try:
        return load("native")
    except (BackendUnavailable, ImportError) as e:
        warnings.warn(f"no fused backend: {e}. The slow reference operations are used instead.", stacklevel=3)
        return load("reference")


def int4_matmul(x: mx.array, w: mx.array, scales: mx.array, biases: mx.array, **options: Any) -> mx.array:
    """residual + activation(norm(x) · dequant(w)^T + bias) on the best backend; see `Ops.int4_matmul`."""
    return load().int4_matmul(x, w, scales, biases, **options)


def prefix_attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    prefix_q: mx.array,
    prefix_k: mx.array,
    prefix_v: mx.array,
    gate: mx.array | float,
    *,
    scale: float,
    length: int | mx.array,
) -> mx.array:
    """Gated prefix attention on the best backend; see `Ops.prefix_attention`."""
    return load().prefix_attention(q, k, v, prefix_q, prefix_k, prefix_v, gate, scale=scale, length=length)
