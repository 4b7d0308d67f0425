"""The code that clang makes of a kernel for a SIMT processor that every Linux machine can compile for.

The target is amdgcn (gfx1100, wave32): another instruction set and another scheduler than Apple's. The registers rank
designs and show cliffs, they do not predict a pipeline's limit. What any compiler would keep can be relied on: whether
the inner loop is one block, whether arrays went to the stack, how wide the loads are, whether indices are multiplied in
64 bits. Nothing is run, and no GPU is needed.
"""

from __future__ import annotations

import functools
import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from ..cache import cache_folder, keep
from ..compiler import HERE, compilers, stdlib_hash
from ..frontend.signature import Signature
from .assembly import Code, read
from .unit import unit

_FLAGS = [
    "-x", "hip", "--offload-device-only", "-nogpuinc", "-nogpulib", "--offload-arch=gfx1100", "-std=c++14", "-O2", "-S",
    "-ffp-contract=on", "-fgpu-flush-denormals-to-zero", "-fno-exceptions", "-w", "-ftemplate-depth=2000",
    "-fbracket-depth=2000", "-Wno-narrowing",
]  # fmt: skip
MEAN_UNROLLING = 60
"""Threshold of a compiler that unrolls little: where private arrays stay in registers even so, they do everywhere."""
_LITTLE = tuple(
    word
    for option in ("unroll-threshold", "amdgpu-unroll-threshold-private", "amdgpu-unroll-threshold-local")
    for word in ("-mllvm", f"-{option}={MEAN_UNROLLING}")
)
_STEP = 8
_MOST = 256


class NotMeasured(RuntimeError):
    """A kernel's code cannot be measured; the message says why."""


@dataclass(frozen=True)
class Shape:
    """A kernel's code as compiled by default, its least registers without spilling, its stack with little unrolling."""

    code: Code
    least_registers: int
    stack_if_little_is_unrolled: int


def unavailable() -> str:
    """Return why nothing can be measured here, or ""."""
    clang = next((c for c in compilers() if c.family == "clang"), None)
    if clang is None:
        return "no clang 16 or later (Debian: apt-get install clang-16)"
    targets = subprocess.run([clang.path, "--print-targets"], capture_output=True, text=True, check=False).stdout
    return "" if "amdgcn" in targets else f"{clang.path} has no target amdgcn"


def measure(signature: Signature, grid: Sequence[int], threadgroup: Sequence[int], *, registers: bool = True) -> Shape:
    """Compile a kernel and describe its code; with `registers` false the search for the least number is left out.

    Raises NotMeasured if there is no such compiler, or the kernel uses what the target lacks (simdgroup_matrix).
    """
    if reason := unavailable():
        raise NotMeasured(reason)
    code = _compiled(unit(signature, grid, threadgroup, 0), ())
    little = _compiled(unit(signature, grid, threadgroup, 0), _LITTLE)
    least = code.registers
    if registers:
        low, high = 0, -(-_MOST // _STEP)  # in steps; what `high` allows does not spill, as far as there are registers
        while high - low > 1:
            middle = (low + high) // 2
            fits = _fits(unit(signature, grid, threadgroup, middle * _STEP), code.stack)
            low, high = (low, middle) if fits else (middle, high)
        least = high * _STEP
    return Shape(code, least, little.stack)


def _fits(text: str, stack: int) -> bool:
    """Tell whether a kernel needs no more registers than it may have."""
    try:
        tried = _compiled(text, ())
    except NotMeasured as e:
        if "ran out of registers" in str(e):
            return False
        raise
    return not tried.spills and tried.stack <= stack


def _compiled(text: str, extra: tuple[str, ...]) -> Code:
    return read(_assembly(text, extra))


@functools.lru_cache(maxsize=64)
def _assembly(text: str, extra: tuple[str, ...]) -> str:
    """Return clang's assembly, kept beside the compiled kernels."""
    clang = next(c for c in compilers() if c.family == "clang")
    key = hashlib.sha256("\0".join([clang.version, *_FLAGS, *extra, stdlib_hash(), text]).encode()).hexdigest()[:32]
    kept = cache_folder() / f"simt-{key}.s"
    if not kept.exists():
        command = [clang.path, *_FLAGS, *extra, "-I", str(HERE / "metal_stdlib"), "-", "-o", "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [row for row in done.stderr.splitlines() if "error:" in row]
            raise NotMeasured("clang cannot compile it for a SIMT target: " + "; ".join(errors[:3]))
        keep(kept, done.stdout)
    return kept.read_text()
