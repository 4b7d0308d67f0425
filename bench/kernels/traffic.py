"""Bytes that the Metal kernels ask for, buffer by buffer, counted while the interpreter runs their source on the CPU.

Accesses before any cache: no model of time, but `loaded` over `needed` of the weights says how many times a design asks
for them, and is the same on every machine.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from .cases import Case, call, cast, error


def count(case: Case) -> dict[str, Any]:
    """Run one call of the case in the interpreter's check mode: bytes of the buffers that must be read, and the error.

    `needed` counts each byte that is read once, `loaded` as often as it is asked for.
    """
    from kernels import interpreter
    from kernels.metal import Engine, MetalOps

    built: list[Any] = []

    def build(**options: Any) -> Any:
        built.append(interpreter.metal_kernel(**options))
        return built[-1]

    ops = MetalOps("interpreter", Engine(build, {"check": True}))
    arguments = case.make(np.random.default_rng(0))
    own = cast(arguments, ops)
    result = call(ops, case.operation, own)
    mx.eval(result)
    buffers: dict[str, dict[str, int]] = {}
    for kernel in built:
        for name, c in kernel.counters.items():
            if name in case.needed:
                entry = buffers.setdefault(name, {"loaded": 0, "needed": 0})
                entry["loaded"] += c.loaded
                entry["needed"] += c.unique_loaded
    return {
        "buffers": buffers,
        "loaded": sum(b["loaded"] for b in buffers.values()),
        "needed": sum(b["needed"] for b in buffers.values()),
        "launches": len(built),
        "error": error(case, arguments, result),
    }
