"""Faults in code that an optimizing compiler may leave out, as nothing comes of it: found as well."""

from __future__ import annotations

from typing import Any

import pytest

from kernels.interpreter import KernelFault

from .test_faults import CLEAN, run

pytestmark = pytest.mark.backend("interpreter")

START = """uint i = thread_position_in_grid.x, t = thread_position_in_threadgroup.x;
out[i] = a[i]; int z = int(a[0]);
"""
ENDLESS = {
    "with an end that no thread reaches": "for (;;) { if (i == 999) break; }",
    "over a load that stays": "while (a[0] == 0) {}",
    "over odd numbers to zero": "for (uint k = 1; k != 0; k += 2) {}",
    "of one thread": "if (i == 3) for (;;) {}",
    "whose private number is used": "uint k = 1; while (k != 0) k = k * 2 + 1; out[i] = k;",
    "by a step of zero": "for (uint k = 0; k < 10; k += uint(z)) {}",
}
NULL = {
    "store of one thread": "device float* p = (device float*)0; if (i == 5) p[0] = 1;",
    "store": "device float* p = nullptr; p[0] = 1;",
    "load": "device float* p = nullptr; if (i == 5) out[i] = p[0];",
    "store behind an offset": "device float* p = nullptr; if (i == 5) p[i] = 1;",
    "pointer that some threads have": "device float* p = i == 5 ? nullptr : out + i; *p = 1; if (p) out[i] = 2;",
    "threadgroup memory": "threadgroup float* p = nullptr; if (i == 5) p[t] = 1;",
    "private memory": "thread float* p = nullptr; if (i == 5) *p = 1;",
    "constant memory": "const constant float* p = nullptr; if (i == 5) out[i] = p[2];",
    "component of a vector": "device float4* p = nullptr; if (i == 5) p->x = 1;",
    "reference": "device float* p = nullptr; device float& r = *p; if (i == 5) r = 1;",
    "atomic": "device atomic_uint* p = nullptr; if (i == 5) "
    "atomic_fetch_add_explicit(p, 1u, memory_order_relaxed);",
}  # fmt: skip
BY_ZERO = {
    "quotient": "if (i == 0) out[0] = 7 / z;",
    "quotient that nothing uses": "if (i == 0) { int q = 7 / z; }",
    "remainder that nothing uses": "if (i == 0) { int q = 7 % z; }",
    "of unsigned numbers": "uint u = uint(z); if (i == 0) out[0] = i % u;",
    "of zero": "out[i] = float(z / z);",
    "of long numbers": "if (i == 0) out[0] = 7l / long(z);",
    "of narrow numbers": "uchar u = uchar(z); if (i == 0) out[0] = uchar(7) % u;",
    "by a constant": "int none = 0; if (i == 0) out[0] = int(i) / none;",
    "of a vector": "int4 q = int4(9) / int4(z, 1, 1, 1); if (i == 0) out[0] = q.x;",
    "in place": "uint q = 9; if (i == 0) q %= uint(z); out[i] = q;",
}


def faults(using: Any, text: str) -> list[Any]:
    with pytest.raises(KernelFault) as caught:
        run(START + text, using, check=True)
    return caught.value.issues


@pytest.mark.parametrize("name", ENDLESS)
def test_a_loop_without_end_is_found(using: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("INSTRUCT_MUSICGEN_INTERPRETER_SECONDS", "1")
    assert [issue.kind for issue in faults(using, ENDLESS[name])] == ["no-progress"]
    with pytest.raises(KernelFault, match="an endless loop"):
        run(START + ENDLESS[name], using)


@pytest.mark.parametrize("name", NULL)
def test_a_null_pointer_is_found(using: Any, name: str) -> None:
    """By its address, or by the compiler's check of what it knows to be null."""
    (issue,) = faults(using, NULL[name])
    assert issue.kind == "wild-access" or (issue.kind == "crash" and "null pointer" in str(issue)), issue
    assert issue.line == 3


@pytest.mark.parametrize("name", BY_ZERO)
def test_a_division_of_integers_by_zero_is_found(using: Any, name: str) -> None:
    (issue,) = faults(using, BY_ZERO[name])
    assert (issue.kind, issue.line, issue.thread) == ("crash", 3, (0, 0, 0))
    assert "integer division by zero" in str(issue) and "least" not in str(issue)


@pytest.mark.parametrize("operator", ("/", "%"))
def test_the_least_number_by_minus_one_is_an_overflow(using: Any, operator: str) -> None:
    issues = faults(using, f"int least = -2147483647 - 1 + z; if (i == 0) out[0] = least {operator} (z - 1);")
    assert "-2147483648 / -1 does not fit the signed type" in str(issues[0])
    assert not any("division by zero;" in str(issue) for issue in issues)


def test_what_ends_and_what_is_asked_beforehand_is_no_fault(using: Any) -> None:
    text = """for (uint k = 1; k != 0; k *= 2) {} device float* p = i == 5 ? nullptr : out + i; if (p) *p = 2;
out[i] += z == 0 ? 1 : 7 / z; for (;;) { if (i < 999) break; }"""
    _, kernel = run(START + text, using, check=True)
    assert kernel.issues == []
    assert run(CLEAN, using, check=True)[1].issues == []
