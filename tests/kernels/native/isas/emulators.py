"""What runs the instruction sets that this machine may not have."""

from __future__ import annotations

import platform
import shutil

from kernels.native import unavailable

EMULATED = {
    # name: (compiler, its flags, what runs the program)
    "avx512": ("g++", ["-mavx2", "-mfma", "-mf16c", "-include", "avx512_emulated.h"], []),
    "avx512vnni": ("g++", ["-mavx2", "-mfma", "-mf16c", "-DEMULATE_VNNI", "-include", "avx512_emulated.h"], []),
    "neon": ("aarch64-linux-gnu-g++", ["-static"], ["qemu-aarch64"]),
    "neondotprod": ("aarch64-linux-gnu-g++", ["-static", "-march=armv8.2-a+dotprod"], ["qemu-aarch64"]),
}


def missing(isa: str) -> str | None:
    """Why this machine cannot emulate an instruction set, and the fix where there is one."""
    compiler, _, runner = EMULATED[isa]
    for tool in (compiler, *runner):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (apt-get install g++ g++-aarch64-linux-gnu qemu-user)"
    if isa.startswith("avx512"):
        from kernels.native import info

        if platform.machine() != "x86_64" or unavailable() or "avx2" not in info()["isas"]:
            return "AVX-512 is emulated with AVX2, which this machine does not have"
    return None


def summary() -> list[str]:
    """A line for every instruction set that was not tested by emulation, for the end of a run."""
    absent = {isa: missing(isa) for isa in EMULATED}
    return [f"emulated instruction set NOT tested: {isa}: {why}" for isa, why in absent.items() if why]
