"""Planted faults: each is found in check mode and named, its clean twin passes, with every compiler that is here."""

from __future__ import annotations

import mlx.core as mx
import pytest

from kernels.interpreter import KernelFault, compilers
from kernels.interpreter.kernel import MetalKernel

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
    "uninitialised threadgroup memory": ("shared[t] = a[i];", "if (t < 60) shared[t] = a[i];", "uninitialised-read"),
    "uninitialised output": ("out[i] = shared", "out[i] += shared", "uninitialised-read"),
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
    "private array": ("float total =", "float p[4]; p[(t & 7)] = 1; float total =", "private-bounds"),
}


def run(source: str, using, **options) -> tuple[mx.array, MetalKernel]:
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


@pytest.fixture(params=compilers(), ids=lambda c: c.family)
def using(request):
    return request.param


def test_there_is_a_compiler():
    assert compilers(), "install g++ 12 or later, or clang 16 or later"


@pytest.mark.parametrize("seed", [0, 1, 5])
@pytest.mark.parametrize("fp", ["off", "contract", "fast"])
def test_the_clean_kernel_passes_and_is_right(using, seed, fp):
    out, kernel = run(CLEAN, using, check=True, seed=seed, fp=fp)
    assert mx.array_equal(out, right())
    assert kernel.issues == []
    assert kernel.counters["a"].unique_loaded == kernel.counters["out"].unique_stored == 4 * N
    assert kernel.threadgroup_bytes == 256


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(using, name):
    old, new, kind = FAULTS[name]
    source = CLEAN.replace(old, new)
    assert source != CLEAN
    try:
        run(source, using, check=True)
    except KernelFault as fault:
        assert kind in {issue.kind for issue in fault.issues}, fault
        return
    pytest.fail(f"{name}: not found")


def test_a_fault_says_where(using):
    with pytest.raises(KernelFault) as caught:
        run(CLEAN.replace("out[i] =", "out[i + 1] ="), using, check=True)
    (issue,) = [i for i in caught.value.issues if i.kind == "out-of-bounds"]
    assert (issue.line, issue.buffer, issue.thread, issue.write) == (7, "out", (127, 0, 0), True)
    assert "line 7" in str(issue)


def test_too_many_threads(using):
    kernel = MetalKernel("wide", ["a"], ["out"], "out[thread_position_in_grid.x] = 1;", using=using)
    with pytest.raises(KernelFault, match="1024"):
        kernel(
            inputs=[mx.zeros((8,))], grid=(2048, 1, 1), threadgroup=(2048, 1, 1), output_shapes=[(2048,)],
            output_dtypes=[mx.float32],
        )
