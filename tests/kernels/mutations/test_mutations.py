"""Faults planted in our own kernels, one at a time: each must be noticed by a check that the true source passes.

"Noticed" means a wrong result or a fault of the interpreter's check mode; a mutant that no longer compiles counts as an
error of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kernels import Ops, interpreter, metal

from . import attention, products
from .planted import Mutant, Planted, mutants

pytestmark = [pytest.mark.backend("interpreter"), pytest.mark.slow]

MUTANTS = mutants(products.PLANTED + attention.PLANTED)


def test_every_kernel_has_mutants() -> None:
    kernels = {path.name for path in metal.engine.SOURCES.glob("*.metal")}
    assert kernels <= {m.file for m in MUTANTS}
    assert len({(m.what, m.file) for m in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("killer", sorted({m.killer for m in MUTANTS}, key=id), ids=lambda _: "")
def test_true_source_passes(killer: Callable[[Ops], Any]) -> None:
    killer(metal.on_interpreter(check=True, seed=1))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.file}: {m.what}")
def test_mutant_is_noticed(mutant: Mutant) -> None:
    engine = Planted(mutant)
    with pytest.raises((AssertionError, interpreter.KernelFault)) as noticed:
        mutant.killer(metal.MetalOps("interpreter", engine))
    assert engine.used, f"the killer does not use {mutant.file}"
    assert "adapt the mutant" not in str(noticed.value), str(noticed.value)
