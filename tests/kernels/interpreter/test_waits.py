"""Kernels whose threads wait for each other without end: given up after a limit."""

from __future__ import annotations

from typing import Any

import pytest

from kernels.interpreter import KernelFault

from .test_faults import CLEAN, run

pytestmark = pytest.mark.backend("interpreter")

WAITS = {
    "for a flag of its simdgroup": """threadgroup atomic_uint flag;
if (t == 0) atomic_store_explicit(&flag, 0u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
if (t == 1) atomic_store_explicit(&flag, 1u, memory_order_relaxed);
if (t == 0) while (atomic_load_explicit(&flag, memory_order_relaxed) == 0u) {}
out[i] = 1;""",
    "at a barrier without end": """threadgroup atomic_uint flag;
atomic_store_explicit(&flag, 0u, memory_order_relaxed);
do threadgroup_barrier(mem_flags::mem_threadgroup); while (atomic_load_explicit(&flag, memory_order_relaxed) == 0u);
out[i] = 1;""",
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("name", WAITS)
def test_a_wait_without_end_is_given_up(using: Any, monkeypatch: pytest.MonkeyPatch, name: Any, check: Any) -> None:
    monkeypatch.setenv("INSTRUCT_MUSICGEN_INTERPRETER_SECONDS", "1")
    source = "uint i = thread_position_in_grid.x, t = thread_position_in_threadgroup.x;\n" + WAITS[name]
    with pytest.raises(KernelFault, match="ran for 1 s without its threadgroup coming to an end") as caught:
        run(source, using, check=check)
    assert "no-progress" in {issue.kind for issue in caught.value.issues}
    run(CLEAN, using, check=check)


def test_a_limit_that_is_no_number_is_refused(using: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTRUCT_MUSICGEN_INTERPRETER_SECONDS", "soon")
    with pytest.raises(ValueError, match="'soon' is not a number of whole seconds; use 30"):
        run(CLEAN, using)
