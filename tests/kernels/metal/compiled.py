"""Our decode kernels as a SIMT compiler makes them: which launches, and their code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kernels import metal
from kernels.beside_mlx import registers
from kernels.beside_mlx.registers import VARIANTS
from kernels.interpreter.frontend.signature import Signature
from kernels.interpreter.kernel import MetalKernel
from kernels.interpreter.registers import Shape

Change = tuple[str, str, str]
"""A file, a text in it, and what replaces it."""


class _Changed(metal.Engine):
    """Builds kernels from sources in which a text is replaced."""

    change: Change | None = None

    def source(self, file: str) -> str:
        text = super().source(file)
        if self.change is None or file != self.change[0]:
            return text
        _, old, new = self.change
        assert text.count(old) >= 1, f"{old!r} does not occur in {file}; adapt the mutant to the new source"
        return text.replace(old, new)


def _engine(change: Change | None) -> Callable[..., metal.Engine]:
    def make(build: Callable[..., Any]) -> metal.Engine:
        engine = _Changed(build)
        engine.change = change
        return engine

    return make


def signatures(change: Change | None = None) -> dict[str, Signature]:
    """Return the text that MLX would compile of every variant."""
    found: dict[str, Signature] = {}

    def look(kernel: MetalKernel, a: dict[str, Any]) -> None:
        found[kernel.name] = kernel.signature(a["inputs"], a["output_dtypes"], a["template"])

    for call in VARIANTS.values():
        registers.launched(call, look, _engine(change))
    return found


@functools.cache
def compiled(name: str, change: Change | None = None, least: bool = False) -> Shape:
    """Return the code of a variant's launch, with `least` also its least registers."""
    return registers.compiled(VARIANTS[name], registers=least, engine=_engine(change))[1]
