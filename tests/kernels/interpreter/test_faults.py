"""Planted faults: each is found in check mode and named, its clean twin passes, with every compiler that is here."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest

from kernels.interpreter import KernelFault, compilers
from kernels.interpreter.kernel import MetalKernel

pytestmark = pytest.mark.backend("interpreter")

N = 128
CLEAN = """
uint i = thread_position_in_grid.x, t = thread_position_in_threadgroup.x;
threadgroup float shared[64];
shared[t] = a[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
float total = simd_sum(a[i]);
out[i] = shared[63 - t] + total;
"""
FAULTS = {
    "load beyond the buffer": ("a[i];", "a[i + 1];", "out-of-bounds"),
    "store beyond the buffer": ("out[i] =", "out[i + 1] =", "out-of-bounds"),
    "load far beyond": ("a[i];", "a[i + 1000000];", "out-of-bounds"),
    "load before the buffer": ("a[i];", "a[int(i) - 1];", "out-of-bounds"),
    "store to an input": ("out[i] =", "((device float*)a)[i] = 1; out[i] =", "store-to-input"),
    "missing barrier": ("threadgroup_barrier(mem_flags::mem_threadgroup);", "", "race"),
    "barrier of the other memory": ("mem_flags::mem_threadgroup", "mem_flags::mem_device", "race"),
    "simdgroup barrier across simdgroups": ("threadgroup_barrier(", "simdgroup_barrier(", "race"),
    "uninitialized threadgroup memory": ("shared[t] = a[i];", "if (t < 60) shared[t] = a[i];", "uninitialized-read"),
    "uninitialized output": ("out[i] = shared", "out[i] += shared", "uninitialized-read"),
    "divergent barrier": (
        "threadgroup_barrier(mem_flags::mem_threadgroup);",
        "if (t < 32) threadgroup_barrier(mem_flags::mem_threadgroup);",
        "divergent-barrier",
    ),
    "divergent simd operation": (
        "threadgroup_barrier(mem",
        "if (t % 2) shared[t] = simd_sum(a[i]); threadgroup_barrier(mem",
        "divergent-simd",
    ),
    "output not written": ("out[i] =", "if (i != 77) out[i] =", "unwritten-output"),
    "two writers": ("out[i] =", "out[i / 2] = float(i); out[i] =", "race"),
    "reads another threadgroup's output": ("+ total;", "+ total; if (i == 100) out[i] = out[3];", "cross-threadgroup"),
    "too much threadgroup memory": ("shared[64]", "shared[16384]", "threadgroup-memory"),
    "double": ("float total", "double total", "not-metal"),
    "std": ("simd_sum(a[i])", "std::max(a[i], 0.0f)", "not-metal"),
    "no address space": ("float total", "const float* p = a; float total", "address-space"),
    "reference without address space": ("float total", "float& r = out[i]; float total", "address-space"),
    "race within a simdgroup": ("shared[63 - t]", "shared[63 - t]; shared[t] = 0; out[i] += shared[t ^ 1]", "race"),
    "plain beside atomic": (
        "out[i] =",
        "atomic_fetch_add_explicit((device atomic_uint*)out, 1u, memory_order_relaxed); threadgroup_barrier("
        "mem_flags::mem_threadgroup); if (i == 5) out[0] = 1; else if (i > 0) out[i] =",
        "race",
    ),
    "barrier in a loop of uneven length": (
        "float total",
        "for (uint k = 0; k < 1 + t / 32; k++) threadgroup_barrier(mem_flags::mem_threadgroup); float total",
        "divergent-barrier",
    ),
    "two barriers on one line": (
        "threadgroup_barrier(mem_flags::mem_threadgroup);",
        "if (t < 32) threadgroup_barrier(mem_flags::mem_threadgroup); "
        "else threadgroup_barrier(mem_flags::mem_threadgroup);",
        "divergent-barrier",
    ),
    "two simd operations on one line": ("simd_sum(a[i])", "t % 2 ? simd_sum(a[i]) : simd_sum(-a[i])", "divergent-simd"),
    "shuffle from no lane": ("simd_sum(a[i])", "simd_shuffle(a[i], ushort(t % 32 + 1))", "inactive-lane"),
    "threadgroup array": ("shared[t] =", "shared[t + 1] =", "out-of-bounds"),
    "threadgroup pointer": ("shared[t] =", "threadgroup float* p = shared; p[t + 1] =", "out-of-bounds"),
    "shape": ("+ total", "+ total * a_shape[1]", "out-of-bounds"),
    "private sum": ("float total =", "float total; total +=", "uninitialized-read"),
    "lambda": ("simd_sum(a[i])", "[](float x) { return simd_sum(x); }(a[i])", "not-metal"),
    "static variable": ("float total", "static float kept = 0; float total", "not-metal"),
    "long long": ("float total", "long long many = 1; float total", "not-metal"),
    "long double": ("+ total", "+ 1.0L", "not-metal"),
    "misaligned vector": ("+ total;", "+ total + (*(const device float4*)(a + t + 1)).w;", "misaligned"),
    "vector beyond the buffer": (
        "+ total;",
        "+ total + length(*(const device float4*)(a + (i + 4) / 4 * 4));",
        "out-of-bounds",
    ),
    "component beyond a vector": ("+ total;", "+ total + float4(total)[t % 5];", "private-bounds"),
    "integer overflow": ("+ total;", "+ total + (int(i) + 2147483600);", "integer-overflow"),
    "overflow of a product": ("+ total;", "+ total + int(i) * 100000000;", "integer-overflow"),
    "negative shift": ("+ total;", "+ total + (1 << (int(i) - 3));", "shift"),
    "shift by the width": ("+ total;", "+ total + (1u << i);", "shift"),
    "last atomic store wins": (
        "float total",
        "threadgroup atomic_uint last; atomic_store_explicit(&last, t, memory_order_relaxed); float total",
        "race",
    ),
    "atomic on an input": (
        "float total",
        "atomic_fetch_add_explicit((device atomic_uint*)a, 1u, memory_order_relaxed); float total",
        "store-to-input",
    ),
    "private array": ("float total =", "float p[4]; p[(t & 7)] = 1; float total =", "private-bounds"),
}


def run(source: str, using: Any, **options: Any) -> tuple[mx.array, MetalKernel]:
    kernel = MetalKernel("planted", ["a"], ["out"], source, using=using)
    a = mx.arange(N, dtype=mx.float32)
    (out,) = kernel(
        inputs=[a], grid=(N, 1, 1), threadgroup=(64, 1, 1), output_shapes=[(N,)], output_dtypes=[mx.float32], **options
    )
    return out, kernel


def right() -> mx.array:
    """What CLEAN computes."""
    a = mx.arange(N, dtype=mx.float32)
    return a.reshape(2, 64)[:, ::-1].reshape(-1) + mx.repeat(a.reshape(4, 32).sum(axis=1), 32)


def test_there_is_a_compiler() -> None:
    assert compilers(), "install g++ 12 or later, or clang 16 or later"


@pytest.mark.parametrize("seed", [0, 1, 5])
@pytest.mark.parametrize("fp", ["off", "contract", "fast"])
def test_the_clean_kernel_passes_and_is_right(using: Any, seed: Any, fp: Any) -> None:
    out, kernel = run(CLEAN, using, check=True, seed=seed, fp=fp)
    assert mx.array_equal(out, right())
    assert kernel.issues == []
    assert kernel.counters["a"].unique_loaded == kernel.counters["out"].unique_stored == 4 * N
    assert kernel.threadgroup_bytes == 256


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(using: Any, name: Any) -> None:
    old, new, kind = FAULTS[name]
    source = CLEAN.replace(old, new)
    assert source != CLEAN
    try:
        run(source, using, check=True)
    except KernelFault as fault:
        assert kind in {issue.kind for issue in fault.issues}, fault
        return
    pytest.fail(f"{name}: not found")


LEGAL = {
    "whole simdgroups leave": "out[i] = 1; if (t >= 32) return; out[i] = simd_sum(1.0f);",
    "double buffer": """threadgroup float s[2][64]; float v = 0; s[0][t] = a[i];
for (int k = 0; k < 4; k++) {
  threadgroup_barrier(mem_flags::mem_threadgroup); v += s[k % 2][63 - t]; s[(k + 1) % 2][t] = a[i] + k;
} out[i] = v;""",
    "memory used again": """threadgroup float s[64]; s[t] = a[i]; threadgroup_barrier(mem_flags::mem_threadgroup);
float v = s[63 - t]; threadgroup_barrier(mem_flags::mem_threadgroup); s[t] = v;
threadgroup_barrier(mem_flags::mem_threadgroup); out[i] = s[63 - t];""",
    "exchange within a simdgroup": """threadgroup float s[64]; s[t] = a[i];
simdgroup_barrier(mem_flags::mem_threadgroup); out[i] = s[t ^ 1];""",
    "exchange through device memory": """out[i] = a[i]; threadgroup_barrier(mem_flags::mem_device);
float v = out[i ^ 1]; threadgroup_barrier(mem_flags::mem_device); out[i] = v;""",
    "atomics": """threadgroup atomic_uint c; if (t == 0) atomic_store_explicit(&c, 0u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup); atomic_fetch_add_explicit(&c, 1u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup); out[i] = atomic_load_explicit(&c, memory_order_relaxed);""",
    "memory by another type": """threadgroup float4 s4[16]; threadgroup float* s = (threadgroup float*)s4; s[t] = a[i];
threadgroup_barrier(mem_flags::mem_threadgroup); float4 v = s4[t / 4]; out[i] = v[t % 4];""",
    "packed vectors": """device packed_float3* p = (device packed_float3*)out;
if (i < 42) p[i] = packed_float3(1, 2, 3); else if (i < 44) out[84 + i] = 0;""",
    "components": """device float4* p = (device float4*)out;
if (i < 32) { p[i].x = 1; p[i].yz = float2(2, 3); p[i].w = 4; }""",
    "one value by many, with atomics": """threadgroup atomic_uint c;
atomic_store_explicit(&c, 7u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup); out[i] = atomic_load_explicit(&c, memory_order_relaxed);""",
    "a lock": """threadgroup atomic_uint c; if (t == 0) atomic_store_explicit(&c, 0u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint e = 0; !atomic_compare_exchange_weak_explicit(&c, &e, 1u, memory_order_relaxed, memory_order_relaxed);) e = 0;
atomic_store_explicit(&c, 0u, memory_order_relaxed); out[i] = 1;""",
    "integers that wrap": """threadgroup atomic_int c;
if (t == 0) atomic_store_explicit(&c, 2147483647, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup); atomic_fetch_add_explicit(&c, 1, memory_order_relaxed);
int lowest = as_type<int>(0x80000000u); out[i] = float(abs(lowest)) + float((i - 5u) * 3000000000u);""",
    "a coherent buffer": """volatile coherent(system) device float* o = out; o[i] = a[i];
atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);""",
    "a union with a vector": "union { float4 v; float f[4]; } u; u.v = float4(a[i]); out[i] = u.f[t % 4];",
    "one value by many": """threadgroup float s[1]; s[0] = 7;
threadgroup_barrier(mem_flags::mem_threadgroup); out[i] = s[0];""",
    "assigned on every path that reads": """float v; bool b = a[i] > 3; if (b) v = a[i];
if (b) out[i] = v; else out[i] = 0;""",
    "NaN made and passed on": "out[i] = i % 2 ? NAN * a[i] + (INFINITY - INFINITY) : as_type<float>(0x7fffffffu);",
    "a static constant and a local struct": """static constant constexpr int N = 2;
struct Twice { static float of(float x) { return N * x; } }; out[i] = Twice::of(a[i]);""",
}


@pytest.mark.parametrize("name", LEGAL)
def test_what_is_legal_is_no_fault(using: Any, name: Any) -> None:
    for seed in (0, 5):
        start = "uint i = thread_position_in_grid.x, t = thread_position_in_threadgroup.x;\n"
        _, kernel = run(start + LEGAL[name], using, check=True, seed=seed)
        assert kernel.issues == []


def test_recursion_is_found_and_overloads_are_not(using: Any) -> None:
    deep = "float half_of(float x) { return x; }\nfloat half_of(int n) { return half_of(float(n)) / 2; }\n"
    for header, lines in ((deep, []), (deep + "float fall(int n) { return n > 0 ? fall(n - 1) : half_of(n); }\n", [3])):
        source = f"out[thread_position_in_grid.x] = {'fall' if lines else 'half_of'}(3);"
        kernel = MetalKernel("recursive", [], ["out"], source, header, using=using)
        try:
            kernel(
                inputs=[],
                grid=(4, 1, 1),
                threadgroup=(4, 1, 1),
                output_shapes=[(4,)],
                output_dtypes=[mx.float32],
                check=True,
            )
        except KernelFault as fault:
            assert [(i.kind, i.line, i.in_header) for i in fault.issues] == [("not-metal", n, True) for n in lines]
        else:
            assert not lines


def test_undefined_behavior_that_traps_leaves_python_alive(using: Any) -> None:
    with pytest.raises(KernelFault):
        run(
            CLEAN.replace(
                "float total",
                "float r[4] = {}; thread float* p = r; float s = 0;"
                " for (int k = 0; k <= 4; k++) s += p[k]; out[i] = s; out[i + 1000000] = s; float total",
            ),
            using,
            check=True,
        )


def test_a_fault_says_where(using: Any) -> None:
    with pytest.raises(KernelFault) as caught:
        run(CLEAN.replace("out[i] =", "out[i + 1] ="), using, check=True)
    (issue,) = [i for i in caught.value.issues if i.kind == "out-of-bounds"]
    assert (issue.line, issue.buffer, issue.thread, issue.write) == (7, "out", (127, 0, 0), True)
    assert "line 7" in str(issue)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("misaligned vector", "address is not a multiple of 16, which the type needs; buffer a, byte 4"),
        ("integer overflow", "48 + 2147483600 does not fit the signed type"),
        ("negative shift", "shifts 32 bits by -3"),
        ("component beyond a vector", "private-bounds: index 4"),
        ("atomic on an input", "stores to an input; buffer a, byte 0"),
    ],
)
def test_a_message_says_what_happened(using: Any, name: Any, words: Any) -> None:
    old, new, kind = FAULTS[name]
    with pytest.raises(KernelFault) as caught:
        run(CLEAN.replace(old, new), using, check=True)
    (line,) = [i + 1 for i, row in enumerate(CLEAN.splitlines()) if old in row]
    issues = [i for i in caught.value.issues if i.kind == kind]
    assert issues[0].line == line
    assert words in str(issues[0])


def test_undefined_arithmetic_can_be_tolerated(using: Any) -> None:
    _, kernel = run(CLEAN.replace("+ total;", "+ (int(i) + 2147483600);"), using, check=True, strict=False)
    assert {i.kind for i in kernel.issues} == {"integer-overflow"}


def test_too_many_threads(using: Any) -> None:
    kernel = MetalKernel("wide", ["a"], ["out"], "out[thread_position_in_grid.x] = 1;", using=using)
    with pytest.raises(KernelFault, match="1024"):
        kernel(
            inputs=[mx.zeros((8,))],
            grid=(2048, 1, 1),
            threadgroup=(2048, 1, 1),
            output_shapes=[(2048,)],
            output_dtypes=[mx.float32],
        )
