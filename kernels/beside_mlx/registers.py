"""`python -m kernels.beside_mlx.registers`: registers of our decode kernels beside MLX's, compiled alike, as tables.

By clang for amdgcn, the least without spilling (`metal-check --registers`). Apple's compiler is another: the second
table holds that count against pipelines whose limit of threads on M1 or M1 Max was published. Registers of 32 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import mlx.core as mx

from .. import Ops, metal
from ..cases import Draw
from ..interpreter.kernel import MetalKernel
from ..interpreter.registers import Shape, measure
from . import mlx_kernels
from .traffic import DIM

Call = Callable[[Ops], Any]
Measured = tuple[int, Shape]
"""A launch's threads, and the shape of its code."""

OCCUPANCY = (
    (1024, 104), (896, 112), (832, 128), (768, 136), (704, 144), (640, 160), (576, 184), (512, 208), (448, 232),
    (384, 256),
)  # fmt: skip
"""Threads of a pipeline that M1 and M2 can run, by its 16-bit registers, at most (Mesa, agx_performance.c)."""


class Public(NamedTuple):
    """A pipeline whose limits of threads on M1, M1 Max or M2 Ultra were published (least, most), and our count of it.

    `counted` is None where MLX's wheel has the text, so that it is counted now. The others were counted once, as
    `metal-check --registers` does, with clang 16, from the text that `source` names: repository and commit.
    """

    name: str
    threads: tuple[int, int]
    counted: tuple[int, int] | None
    source: str = ""

    def registers(self) -> tuple[int, int]:
        """Return the least and the most 32-bit registers that such limits tell."""
        limits = [threads for threads, _ in OCCUPANCY]
        least, most = (limits.index(n) for n in reversed(self.threads))
        return OCCUPANCY[least - 1][1] // 2 + 1, OCCUPANCY[most][1] // 2


_PRODUCTS = "MollySophia/llama.cpp c1ebf3f4f964, ggml/src/ggml-metal/ggml-metal.metal"  # of the time of those limits
_RECURRENT = "ggml-org/llama.cpp 2e2388912a17, ggml/src/ggml-metal/kernels/wkv.metal"
PUBLIC = (
    Public("llama.cpp kernel_mul_mv_q4_0_f32", (704, 704), (64, 64), _PRODUCTS),
    Public("llama.cpp kernel_mul_mv_q8_0_f32", (640, 640), (48, 48), _PRODUCTS),
    Public("llama.cpp kernel_rwkv_wkv6_f32", (384, 384), (168, 168), _RECURRENT),
    Public("llama.cpp kernel_rwkv_wkv7_f32", (448, 448), (144, 144), _RECURRENT),
    # With 64 and 128 blocks, float16 and bfloat16.
    Public(
        "mlx-vlm two_pass_2, head dim 256", (896, 896), (32, 40), "mlx-vlm, mlx_vlm/models/qwen3_5/language.py (2026)"
    ),
    Public("MLX sdpa_vector, head dim 512", (832, 832), None),
)


def _product(rows: int, norm: bool) -> Call:
    r = Draw()
    packed = r.packed(64, DIM)
    return lambda ops: ops.int4_matmul(r.normal(rows, DIM), packed, norm=r.norm(DIM) if norm else None)


def _attention(steps: int, rows: int) -> Call:
    r = Draw()
    q, cache = r.normal(rows, 2, steps, 64), r.normal(2, rows, 2, 90, 64)
    own, k, v = (r.normal(1, 2, n, 64) for n in (steps, 77, 77))
    gate = mx.array([0.5])
    return lambda ops: ops.prefix_attention(q, cache[0], cache[1], own, k, v, gate, scale=0.125, length=83)


def _text(rows: int) -> Call:
    r = Draw()
    k, v = (r.normal(rows, 2, 12, 64) for _ in range(2))
    x, w, norm = r.normal(rows + 1, 1, DIM), r.packed(128, DIM), r.norm(DIM)
    return lambda ops: ops.cross_attention(x, w, k=k, v=v, scale=1 / math.sqrt(64), norm=norm)


# float16, 4 bits, groups of 64, a head dim of 64, as MusicGen-large has them.
VARIANTS: dict[str, Call] = {
    **{f"product, {m} rows": _product(m, False) for m in (1, 2, 4, 8)},
    **{f"norm and product, {m} rows": _product(m, True) for m in (1, 2, 4, 8)},
    "prefix attention, a pair": _attention(1, 2),
    "prefix attention, one row": _attention(1, 1),
    "prefix attention, a window": _attention(8, 2),
    "text attention, 1 row": _text(1),
    "text attention, 4 rows": _text(4),
}


def launched(call: Call, look: Callable[[MetalKernel, dict[str, Any]], None], engine: Callable[..., Any]) -> None:
    """Call an operation of ours on an `engine` whose kernels are looked at, not run: `look(kernel, arguments)`."""

    def build(**options: Any) -> Any:
        kernel = MetalKernel(**options)

        def launch(**a: Any) -> list[mx.array]:
            look(kernel, a)
            return [mx.zeros(shape, dtype=dtype) for shape, dtype in zip(a["output_shapes"], a["output_dtypes"])]

        return launch

    call(metal.MetalOps("interpreter", engine(build)))


def compiled(call: Call, *, registers: bool, engine: Callable[..., Any] = metal.Engine) -> Measured:
    """Return the one launch of a call of ours."""
    found: list[Measured] = []

    def look(kernel: MetalKernel, a: dict[str, Any]) -> None:
        signature = kernel.signature(a["inputs"], a["output_dtypes"], a["template"])
        shape = measure(signature, a["grid"], a["threadgroup"], registers=registers)
        found.append((math.prod(a["threadgroup"]), shape))

    launched(call, look, engine)
    (only,) = found
    return only


def _stock(launch: mlx_kernels.Stock) -> Measured:
    return math.prod(launch.threadgroup), measure(launch.signature(), launch.grid, launch.threadgroup)


def _sdpa(dim: int) -> Measured:
    r = Draw()
    return _stock(mlx_kernels.sdpa_vector(r.normal(2, 2, 1, dim), *(r.normal(2, 2, 90, dim) for _ in "kv")))


def stock() -> Iterator[tuple[str, Measured]]:
    """Yield MLX's kernels for a part of the same work, at the same shapes."""
    r = Draw()
    w = r.packed(64, DIM)
    yield "MLX qmv_fast (a row at a time)", _stock(mlx_kernels.qmv_fast(r.normal(1, DIM), w))
    for rows in (2, 4):
        yield f"MLX qmv_wide, {rows} rows", _stock(mlx_kernels.qmv_wide(r.normal(rows, DIM), w))
    yield "MLX sdpa_vector, head dim 64", _sdpa(64)


class Calibrated(NamedTuple):
    """A public pipeline with Apple's registers (least, most), ours (least, most), and Apple's over ours."""

    name: str
    threads: tuple[int, int]
    apple: tuple[int, int]
    ours: tuple[int, int]
    ratio: tuple[float, float]


def calibrated() -> list[Calibrated]:
    """Compare our count with the public pipelines'."""
    rows = []
    for each in PUBLIC:
        ours = each.counted or (_sdpa(512)[1].least_registers,) * 2
        least, most = each.registers()
        rows.append(Calibrated(each.name, each.threads, (least, most), ours, (least / ours[1], most / ours[0])))
    return rows


def main() -> None:
    """Print both tables, a line as soon as it is measured."""
    print("| kernel | threads | registers | stack | stack if little is unrolled | instructions |")
    print("|---|--:|--:|--:|--:|--:|")
    ours = ((name, compiled(call, registers=True)) for name, call in VARIANTS.items())
    for rows in (ours, stock()):
        for name, (threads, shape) in rows:
            stacks = f"{shape.code.stack} | {shape.stack_if_little_is_unrolled}"
            print(
                f"| {name} | {threads} | {shape.least_registers} | {stacks} | {shape.code.instructions} |", flush=True
            )
    print("\n| public pipeline | threads, at most | registers by that | counted by clang | Apple's over clang's |")
    print("|---|--:|--:|--:|--:|")
    found = calibrated()
    for row in found:
        ratio = f"{row.ratio[0]:.2f} to {row.ratio[1]:.2f}"
        print(f"| {row.name} | {_range(row.threads)} | {_range(row.apple)} | {_range(row.ours)} | {ratio} |")
    low, high = min(row.ratio[0] for row in found), max(row.ratio[1] for row in found)
    print(f"\nApple's used {low:.2f} to {high:.2f} times the registers counted here: the count ranks designs, no more.")


def _range(pair: tuple[int, int]) -> str:
    return " to ".join(str(n) for n in dict.fromkeys(pair))


if __name__ == "__main__":
    main()
