"""The interpreter for aarch64: barriers, simd operations, half precision, matrices and check mode, under emulation."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from kernels.interpreter import KernelFault, kernel
from kernels.interpreter.compiler import HERE, Compiler
from kernels.interpreter.static_checks import lint
from kernels.metal.engine import Engine
from kernels.metal.int4_matmul import int4_matmul
from reference.contract import Epilogue, Packed

from .. import test_faults
from ..metal_stdlib import test_metal_arithmetic
from . import emulated

emulator = pytest.mark.skipif(emulated.missing() is not None, reason=str(emulated.missing()))


@pytest.fixture
def aarch64(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    emulated.use(monkeypatch)
    return emulated.compiler()


# Enough of the standard headers: those of another machine may not be installed.
STUBS = {
    "cstdint": "typedef unsigned long uintptr_t;",
    "cstring": """namespace std {
inline void* memset(void* p, int v, unsigned long n) { return __builtin_memset(p, v, n); }
inline void* memcpy(void* d, const void* s, unsigned long n) { return __builtin_memcpy(d, s, n); }
}""",
}


@emulator
@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("seed", [0, 5])
def test_barriers_and_simd_operations(aarch64: Compiler, check: bool, seed: int) -> None:
    out, ran = test_faults.run(test_faults.CLEAN, aarch64, check=check, seed=seed)
    assert mx.array_equal(out, test_faults.right())
    assert ran.issues == [] and ran.threadgroup_bytes == 256


@emulator
@pytest.mark.parametrize("name", test_faults.FAULTS)
def test_planted_faults_are_found(aarch64: Compiler, name: str) -> None:
    test_faults.test_a_planted_fault_is_found(aarch64, name)


@emulator
def test_a_fault_says_where(aarch64: Compiler) -> None:
    test_faults.test_a_fault_says_where(aarch64)


@emulator
def test_a_crash_is_a_fault(aarch64: Compiler) -> None:
    with pytest.raises(KernelFault, match="crash: address"):
        test_faults.run(test_faults.CLEAN.replace("out[i] =", "out[i + (1 << 28)] ="), aarch64)


@emulator
@pytest.mark.parametrize("rows", [2, 40])
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
def test_our_matmul_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch, dtype: mx.Dtype, rows: int) -> None:
    """Decode, and tiles on `simdgroup_matrix`: neither calls a function that libraries round as they like."""
    rng = np.random.default_rng(rows)
    x, s, b = (mx.array(rng.normal(size=n).astype(np.float32)).astype(dtype) for n in ((rows, 64), (40, 2), (40, 2)))
    w = mx.array(rng.integers(0, 2**32, (40, 8), dtype=np.uint64).astype(np.uint32))
    weight = Packed(w, s, b, group_size=32)
    here = int4_matmul(Engine(kernel.metal_kernel, {"check": True}), x, weight, None, Epilogue())
    emulated.use(monkeypatch)
    build = functools.partial(kernel.MetalKernel, using=emulated.compiler())
    there = int4_matmul(Engine(build, {"check": True}), x, weight, None, Epilogue())
    assert mx.array_equal(here, there)


@emulator
def test_metals_arithmetic(aarch64: Compiler) -> None:
    test_metal_arithmetic.test_denormals_are_zeros_while_the_kernel_runs(aarch64)
    test_metal_arithmetic.test_functions_are_off_by_what_is_stated_and_precise_ones_are_not(aarch64)


@pytest.mark.skipif(lint.clang() is None, reason="no clang 16 or later: only it assembles for other machines")
def test_the_stack_switch_assembles(tmp_path: Path) -> None:
    """Where there is no emulator."""
    clang = lint.clang()
    assert clang is not None
    for name, text in STUBS.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "switch.cpp").write_text(
        '#include "context.h"\nvoid* begin(char* top, void (*entry)()) { return fresh_stack(top, entry); }\n'
    )
    command = [clang.path, "--target=aarch64-linux-gnu", "-std=c++17", "-O2", "-nostdinc", "-I", str(tmp_path)]
    command += ["-I", str(HERE / "runtime"), "-c", str(tmp_path / "switch.cpp"), "-o", str(tmp_path / "switch.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "switch.o").read_bytes()[18] == 0xB7  # ELF machine: AArch64
