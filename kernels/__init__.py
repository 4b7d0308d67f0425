"""Fused operations for Instruct-MusicGen: one public function each, several ways to run it.

`load(name)` gives the operations of one backend as an `Ops`; the functions of this module are those of `load("auto")`.
`auto` is `metal` where Metal is available, else `native`, else the reference with one warning. `interpreter` (the Metal
source run on the CPU) is never chosen by itself: it is for tests and for studying a kernel.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx

if TYPE_CHECKING:
    from reference import (
        attention,
        conv1d,
        conv_transpose1d,
        cross_attention,
        int4_matmul,
        linear,
        lstm,
        pack,
        prefix_attention,
        self_attention,
    )
    from reference.contract import Activation, Epilogue, Norm, Ops, Packed, Prefix

BACKENDS = ("metal", "native", "reference", "interpreter")

OPERATIONS = (
    "int4_matmul", "linear", "self_attention", "prefix_attention", "cross_attention", "attention", "conv1d",
    "conv_transpose1d", "lstm",
)  # fmt: skip
"""The operations of `reference.contract.Ops`."""
FUSED = ("int4_matmul", "prefix_attention", "cross_attention")
"""Operations that have a Metal kernel of ours; the others are stock MLX on Metal."""
__all__ = [
    "BACKENDS", "FUSED", "OPERATIONS", "Activation", "BackendUnavailable", "Epilogue", "Norm", "Ops", "Packed",
    "Prefix", "attention", "available", "conv1d", "conv_transpose1d", "cross_attention", "int4_matmul", "linear",
    "load", "lstm", "pack", "prefix_attention", "self_attention",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Return a type of the contract, or an operation of the best backend, which is chosen when one is first asked for.

    Both are looked up when used, as the interpreter starts without the reference.
    """
    if name in ("Activation", "Epilogue", "Norm", "Ops", "Packed", "Prefix"):
        return getattr(importlib.import_module("reference.contract"), name)
    if name in OPERATIONS or name == "pack":
        return getattr(load(), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class BackendUnavailable(RuntimeError):
    """A backend that was asked for cannot run here; the message says why and what to do."""


@functools.cache
def load(name: str = "auto") -> Ops:
    """Return the operations of a backend: "auto", "metal", "native", "reference" or "interpreter".

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
        native = importlib.import_module("kernels.native")
        if tuning := _tuned("native"):
            try:
                native.use(tuning)
            except ValueError as e:
                importlib.import_module("kernels.tuning").warn_unusable("native", e)
        return cast("Ops", native)
    if name == "interpreter":
        return cast("Ops", importlib.import_module("kernels.metal").on_interpreter())
    if name == "metal":
        if not mx.metal.is_available():
            raise BackendUnavailable(
                "backend 'metal' cannot run here: this machine has no Metal GPU; use 'native', or 'interpreter' to run "
                "the Metal kernels' source on the CPU"
            )
        return cast("Ops", importlib.import_module("kernels.metal").on_gpu(_tuned("metal")))
    raise NotImplementedError(f"backend {name!r} is in BACKENDS; add a branch for it to `kernels.load`")


def _tuned(backend: str) -> dict[str, Any]:
    """Return the knobs that `bench tune` found for a backend on this machine."""
    found = importlib.import_module("kernels.tuning").in_use(backend)
    return {} if found is None else dict(found.knobs)


def available() -> dict[str, str | None]:
    """Return each backend with None where it can run here, else the reason why not."""
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
