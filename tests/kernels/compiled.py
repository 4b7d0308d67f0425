"""Our decode kernels as a SIMT compiler makes them: which launches, and their code."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from bench.kernels.cases import Draw
from bench.kernels.traffic import DIM
from kernels import Ops, metal
from kernels.interpreter.frontend.signature import Signature
from kernels.interpreter.kernel import MetalKernel
from kernels.interpreter.registers import Shape, measure

Call = Callable[[Ops], Any]


def _product(rows: int, norm: bool) -> Call:
    r = Draw()
    packed = r.packed(64, DIM)
    return lambda ops: ops.int4_matmul(r.normal(rows, DIM), packed, norm=r.norm(DIM) if norm else None)


def _attention(steps: int, rows: int) -> Call:
    r = Draw()
    q, cache = r.normal(rows, 2, steps, 64), r.normal(2, rows, 2, 90, 64)
    own, k, v = (r.normal(1, 2, n, 64) for n in (steps, 77, 77))
    gate = mx.array([0.5])
    return lambda ops: ops.prefix_attention(q, cache[0], cache[1], own, k, v, gate, scale=0.125, length=83)


def _text(rows: int) -> Call:
    r = Draw()
    k, v = (r.normal(rows, 2, 12, 64) for _ in range(2))
    x, w, norm = r.normal(rows + 1, 1, DIM), r.packed(128, DIM), r.norm(DIM)
    return lambda ops: ops.cross_attention(x, w, k=k, v=v, scale=1 / math.sqrt(64), norm=norm)


# float16, 4 bits, groups of 64, a head dim of 64, as MusicGen-large has them.
VARIANTS: dict[str, Call] = {
    **{f"product, {m} rows": _product(m, False) for m in (1, 2, 4, 8)},
    **{f"norm and product, {m} rows": _product(m, True) for m in (1, 2, 4, 8)},
    "prefix attention, a pair": _attention(1, 2),
    "prefix attention, one row": _attention(1, 1),
    "prefix attention, a window": _attention(8, 2),
    "text attention, 1 row": _text(1),
    "text attention, 4 rows": _text(4),
}


class _Changed(metal.Engine):
    """Builds kernels from sources in which a text is replaced."""

    change: tuple[str, str, str] | None = None

    def source(self, file: str) -> str:
        text = super().source(file)
        if self.change is None or file != self.change[0]:
            return text
        _, old, new = self.change
        assert text.count(old) >= 1, f"{old!r} does not occur in {file}; adapt the mutant to the new source"
        return text.replace(old, new)


def signatures(change: tuple[str, str, str] | None = None) -> dict[str, Signature]:
    """Return the text that MLX would compile of every variant."""
    found: dict[str, Signature] = {}

    def build(**options: Any) -> Any:
        kernel = MetalKernel(**options)

        def call(**a: Any) -> list[mx.array]:
            found[options["name"]] = kernel.signature(a["inputs"], a["output_dtypes"], a["template"])
            return [mx.zeros(shape, dtype=dtype) for shape, dtype in zip(a["output_shapes"], a["output_dtypes"])]

        return call

    engine = _Changed(build)
    engine.change = change
    for call in VARIANTS.values():
        call(metal.MetalOps("interpreter", engine))
    return found


@functools.cache
def compiled(name: str, change: tuple[str, str, str] | None = None, registers: bool = False) -> Shape:
    """Return the code of a variant's launch; `change` is (file, text, its replacement)."""
    found: list[Shape] = []

    def build(**options: Any) -> Any:
        kernel = MetalKernel(**options)

        def call(**a: Any) -> list[mx.array]:
            signature = kernel.signature(a["inputs"], a["output_dtypes"], a["template"])
            found.append(measure(signature, a["grid"], a["threadgroup"], registers=registers))
            return [mx.zeros(shape, dtype=dtype) for shape, dtype in zip(a["output_shapes"], a["output_dtypes"])]

        return call

    engine = _Changed(build)
    engine.change = change
    VARIANTS[name](metal.MetalOps("interpreter", engine))
    (shape,) = found
    return shape
