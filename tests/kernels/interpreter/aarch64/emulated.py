"""The interpreter for aarch64 on an emulator: kernels and runtime are cross-compiled, launches go through files."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from kernels.interpreter import compiler as compiler_module
from kernels.interpreter import kernel
from kernels.interpreter.compiler import HERE, Compiler
from kernels.interpreter.launch import OUTPUT, Buffer, Library, Outcome, _Issue, _Launch, _Region
from kernels.interpreter.static_checks import lint

TOOLS = ("aarch64-linux-gnu-g++", "aarch64-linux-gnu-addr2line", "qemu-aarch64")
LIBRARIES = "/usr/aarch64-linux-gnu"
_folder = tempfile.TemporaryDirectory(prefix="aarch64-")


def missing() -> str | None:
    """Why there is no emulation here."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{absent[0]} is not installed (apt-get install g++-aarch64-linux-gnu qemu-user)"
    return None if lint.clang() else "no clang 16 or later: g++ knows no half precision on aarch64 before 13"


@functools.cache
def compiler() -> Compiler:
    """clang for aarch64, as a program of its own."""
    clang = lint.clang()
    assert clang is not None
    path = Path(_folder.name) / "aarch64-clang++"
    path.write_text(f'#!/bin/sh\nexec {clang.path} --target=aarch64-linux-gnu "$@"\n')
    path.chmod(0o755)
    return Compiler(str(path), clang.family, f"{clang.version} for aarch64")


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on kernels that `compiler()` builds run on the emulator."""
    monkeypatch.setattr(compiler_module, "_machine", list)  # this processor's instructions are not that one's
    monkeypatch.setattr(compiler_module, "_x86", bool)
    monkeypatch.setattr(kernel, "Library", Emulated)


@functools.cache
def _driver() -> Path:
    """The runtime and aarch64_driver.cpp as a program."""
    program = Path(_folder.name) / "driver"
    flags = ["-std=c++17", "-O2", "-rdynamic", "-fno-strict-aliasing", "-I", str(HERE / "runtime")]
    flags.append("-DMTL_LARGEST_WINDOW=28")  # qemu takes seconds to reserve the pages of larger ones
    subprocess.run([TOOLS[0], *flags, Path(__file__).with_name("aarch64_driver.cpp"), "-o", program], check=True)
    return program


class Emulated(Library):
    """A compiled kernel that an emulator runs."""

    addr2line = TOOLS[1]

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._lines: dict[int, int] = {}

    def _run(self, launch: _Launch, buffers: Sequence[Buffer], check: bool) -> Outcome:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            sizes = (*launch.grid, *launch.threadgroup, launch.seed, int(check), launch.flush, len(buffers))
            words = [str(self.path), *map(str, sizes)]
            for i, b in enumerate(buffers):
                facts = (b.size, b.element, b.space, int(b.initialized), int(b.floating), b.offset)
                words += [b.name, *map(str, facts)]
                (folder / f"{i}.bin").write_bytes(ctypes.string_at(b.address, b.size))
            (folder / "launch.txt").write_text("\n".join(words))
            subprocess.run([TOOLS[2], "-L", LIBRARIES, _driver(), folder], check=True, timeout=120)
            for i, b in enumerate(buffers):
                if b.space == OUTPUT:
                    ctypes.memmove(b.address, (folder / f"{i}.out").read_bytes(), b.size)
            status, used, image, *shared = (folder / "report.txt").read_text().split()
            regions = (_Region * len(buffers)).from_buffer_copy((folder / "regions.bin").read_bytes())
            raw = (folder / "issues.bin").read_bytes()
        names = [*(b.name for b in buffers), *shared]
        found = (_Issue * (len(raw) // ctypes.sizeof(_Issue))).from_buffer_copy(raw)
        issues = self._named(found, names, int(image))
        return self._outcome(buffers, list(regions) if check else [], int(status), int(used), issues)
