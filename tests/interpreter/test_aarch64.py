"""The aarch64 half of the runtime cannot run here; clang can at least assemble it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kernels.interpreter import lint
from kernels.interpreter.compiler import HERE

# Enough of the standard headers: those of another machine are not installed.
STUBS = {
    "cstdint": "typedef unsigned long uintptr_t;",
    "cstring": """namespace std {
inline void* memset(void* p, int v, unsigned long n) { return __builtin_memset(p, v, n); }
inline void* memcpy(void* d, const void* s, unsigned long n) { return __builtin_memcpy(d, s, n); }
}""",
}


@pytest.mark.skipif(lint.clang() is None, reason="no clang 16 or later: only it assembles for other machines")
def test_the_stack_switch_assembles(tmp_path: Path) -> None:
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
