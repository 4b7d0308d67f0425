"""Address spaces: what Metal's compiler refuses is an issue, what it accepts is none."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from kernels import interpreter
from kernels.beside_mlx.mlx_kernels import KERNELS
from kernels.interpreter.static_checks import address_space, lint

pytestmark = pytest.mark.backend("interpreter")

HEADER = "template <typename T> T first(const device T* p) { return *p; }\n"
SOURCE = """
uint i = thread_position_in_grid.x, t = thread_position_in_threadgroup.x;
threadgroup T shared[64];
const device T* p = a + i;
shared[t] = first(p) + bias;
threadgroup_barrier(mem_flags::mem_threadgroup);
threadgroup T* q = shared;
float4 v = float4(1.0, 2.0, 3.0, 4.0);
out[i] = q[63 - t] + v.x + float(float2(v.zw).x) + c[0];
"""


def issues(source: str, header: str = HEADER) -> list[interpreter.Issue]:
    kernel = interpreter.metal_kernel("linted", ["a", "bias", "c"], ["out"], source, header)
    try:
        kernel(
            inputs=[mx.ones((128,)), mx.array(2.0), mx.ones((3,))],
            template=[("T", mx.float32)],
            grid=(128, 1, 1),
            threadgroup=(64, 1, 1),
            output_shapes=[(128,)],
            output_dtypes=[mx.float32],
            check=True,
        )
    except interpreter.KernelFault as fault:
        return fault.issues
    return kernel.issues


def test_the_clean_kernel_has_no_issue() -> None:
    assert issues(SOURCE) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("const device T* p", "const T* p", 4),
        ("threadgroup T* q", "T* q", 7),
        ("float4 v", "float* r = nullptr; float4 v", 8),
        ("float4 v", "float4 u; float4& r = u; float4 v", 8),
        ("float4 v", "vec<T, 4>* r = nullptr; float4 v", 8),
    ],
)
def test_a_missing_space_is_found_without_clang(old: str, new: str, line: int) -> None:
    found = [i for i in issues(SOURCE.replace(old, new)) if "has no address space" in i.detail]
    assert [(i.kind, i.line, i.in_header) for i in found] == [("address-space", line, False)]


def test_a_missing_space_in_the_header() -> None:
    (found,) = issues(SOURCE, HEADER.replace("const device T*", "const T*"))
    assert (found.kind, found.line, found.in_header) == ("address-space", 1, True)


# clang says more; where there is none, the kinds above are all.
needs_clang = pytest.mark.skipif(lint.clang() is None, reason="no clang 16 or later: see the suite's last lines")


@needs_clang
@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("const device T* p", "const threadgroup T* p", 4),
        ("threadgroup T* q", "device T* q", 7),
        ("threadgroup T* q", "thread T* q", 7),
        ("first(p)", "first(c)", 5),
        ("first(p)", "first(shared)", 5),
    ],
)
def test_clang_finds_the_wrong_space(old: str, new: str, line: int) -> None:
    assert ("address-space", line) in {(i.kind, i.line) for i in issues(SOURCE.replace(old, new))}


def test_mlx_says_every_space() -> None:
    """All headers of MLX's own kernels: what Metal's compiler accepts must not be an issue."""
    headers = sorted(KERNELS.rglob("*.h"))
    assert len(headers) > 50
    assert [(h.name, *f) for h in headers for f in address_space.missing(Path(h).read_text())] == []
