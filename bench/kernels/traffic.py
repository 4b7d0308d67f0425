"""Bytes that Metal kernels ask for, counted while the interpreter runs their source on the CPU.

`python -m bench.kernels.traffic` prints what ours and MLX's own read over what they must, at MusicGen-large's shapes.
Loads are counted before any cache: neighbors in a simdgroup that ask for one address count each. So a ratio says how
often a design asks for its weights, and is the same on every machine; it is no model of time. No GPU is involved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from kernels import interpreter
from kernels.metal import MetalOps
from kernels.metal.engine import Engine
from reference import oracle

from ..records import Traffic
from . import mlx_traffic
from .cases import Case, call, cast, error

DIM, HEADS, HEAD_DIM, FFN = 2048, 32, 64, 8192
SLOTS, FRAMES, TEXT = 251, 251, 12  # a 5 s edit: 251 positions, as many prefix frames, a short instruction
GROUPS = {"weights": ("w",), "scales": ("scales", "biases"), "cache": ("k", "v"), "prefix": ("prefix_k", "prefix_v")}
UNIFORM = ("_shape", "_strides", "_ndim", "sizes", "strides", "scale", "gate", "length", "eps")
"""Ends of the names of constants, the same in all threads."""


def counting_ops() -> tuple[MetalOps, list[Any]]:
    """Return the Metal operations on the interpreter in check mode, and the kernels that they will build.

    Each kernel's `counters` hold the bytes `loaded` from a buffer, and `unique_loaded`, each byte once.
    """
    built: list[Any] = []

    def build(**options: Any) -> Any:
        built.append(interpreter.metal_kernel(**options))
        return built[-1]

    return MetalOps("interpreter", Engine(build, {"check": True})), built


def by_buffer(kernels: list[Any], group: Callable[[str], str | None]) -> dict[str, dict[str, int]]:
    """Sum the counters of kernels that ran by `group(buffer)`: bytes `loaded` and `needed`; None leaves one out."""
    found: dict[str, dict[str, int]] = {}
    for kernel in kernels:
        for buffer, counter in kernel.counters.items():
            if (name := group(buffer)) is not None:
                entry = found.setdefault(name, {"loaded": 0, "needed": 0})
                entry["loaded"] += counter.loaded
                entry["needed"] += counter.unique_loaded
    return found


def count(case: Case) -> Traffic:
    """Run one call of the case: bytes of the buffers that must be read, and the error."""
    ops, built = counting_ops()
    arguments = case.make(np.random.default_rng(0))
    result = call(ops, case.operation, cast(arguments, ops))
    mx.eval(result)
    buffers = by_buffer(built, lambda name: name if name in case.needed else None)
    loaded, needed = (sum(b[kind] for b in buffers.values()) for kind in ("loaded", "needed"))
    return Traffic(buffers, loaded, needed, len(built), dict(error(case, arguments, result)))


@dataclass(frozen=True)
class Row:
    """One line of the table: ratios of bytes loaded to bytes that must be, by group of buffers."""

    name: str
    launches: int
    megabytes: float  # that must be read
    ratios: dict[str, float]
    activations: float  # megabytes of x, q, norm and residual asked for: a few KB that stay in the cache
    threadgroup_kb: float
    error: float  # largest error over the largest magnitude, against the oracle


def compared(name: str, kernels: list[Any], result: mx.array, expected: Any) -> Row:
    """Make the line of a run whose kernels hold their counters."""

    def group(buffer: str) -> str | None:
        if buffer.endswith(UNIFORM):
            return None
        return next((g for g, names in GROUPS.items() if buffer in names), "activations")

    found = by_buffer(kernels, group)
    ratios = {g: found[g]["loaded"] / found[g]["needed"] for g in GROUPS if g in found and found[g]["needed"]}
    error = float(np.abs(oracle.float64(result).reshape(expected.shape) - expected).max() / np.abs(expected).max())
    megabytes, activations = sum(f["needed"] for f in found.values()) / 1e6, found["activations"]["loaded"] / 1e6
    threadgroup = max(kernel.threadgroup_bytes for kernel in kernels) / 1024
    return Row(name, len(kernels), megabytes, ratios, activations, threadgroup, error)


class Inputs:
    """Seeded arrays in float16."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(1)

    def normal(self, *shape: int) -> mx.array:
        """Draw from the standard normal distribution."""
        return mx.array(self.rng.standard_normal(shape, dtype=np.float32)).astype(mx.float16)

    def packed(self, n: int, k: int) -> tuple[mx.array, mx.array, mx.array]:
        """Return w, scales and biases of an [n, k] matrix whose products stay of order 1."""
        w, scales, biases = mx.quantize(self.normal(n, k) / math.sqrt(k), group_size=64, bits=4)
        return w, scales, biases

    def norm(self) -> tuple[mx.array, mx.array, float]:
        """Return weight, bias and epsilon of a layer norm over DIM."""
        return 1 + self.normal(DIM) / 10, self.normal(DIM) / 10, 1e-5


def measured(name: str, operation: str, *args: Any, **options: Any) -> Row:
    """Make the line of one call of ours, against the oracle's function of the same name."""
    ops, built = counting_ops()
    result = getattr(ops, operation)(*args, **options)
    return compared(name, built, result, getattr(oracle, operation)(*args, **options))


def ours() -> Iterator[Row]:
    """Yield the kernels of a decode step, and the tiled one."""
    r = Inputs()
    qkv = r.packed(3 * DIM, DIM)
    for rows in (1, 2, 4, 8):
        yield measured(f"norm + q, k, v, M={rows}", "int4_matmul", r.normal(rows, DIM), *qkv, norm=r.norm())
    x = r.normal(2, DIM)
    yield measured("out + residual, M=2", "int4_matmul", x, *r.packed(DIM, DIM), residual=x)
    yield measured(
        "norm + linear1 + gelu, M=2", "int4_matmul", x, *r.packed(FFN, DIM), norm=r.norm(), activation="gelu"
    )
    yield measured("linear2 + residual, M=2", "int4_matmul", r.normal(2, FFN), *r.packed(DIM, FFN), residual=x)
    yield measured("prefill tile, M=64, N=256", "int4_matmul", r.normal(64, DIM), *r.packed(256, DIM))
    q, cache = r.normal(2, HEADS, 1, HEAD_DIM), r.normal(2, 2, HEADS, SLOTS, HEAD_DIM)
    prefix = [r.normal(1, HEADS, n, HEAD_DIM) for n in (1, FRAMES, FRAMES)]
    gate, scale = mx.array(0.5), 1 / math.sqrt(HEAD_DIM)
    yield measured(
        "prefix attention, pair", "prefix_attention", q, cache[0], cache[1], *prefix, gate, scale=scale, length=SLOTS
    )
    text = [r.normal(1, HEADS, TEXT, HEAD_DIM) for _ in range(2)]
    yield measured(
        "norm + q + text attention",
        "cross_attention",
        r.normal(2, 1, DIM),
        *r.packed(DIM, DIM),
        *text,
        scale=scale,
        norm=r.norm(),
    )


def stock() -> Iterator[Row]:
    """MLX's kernels for the same work, without norm, bias, gelu, residual, gate and sums, which it launches apart."""
    r = Inputs()
    packed = r.packed(DIM, DIM)
    plans: list[tuple[str, Callable[..., tuple[Any, mx.array]], int]] = [
        ("MLX qmv_fast, M=1", mlx_traffic.qmv_fast, 1),
        ("MLX qmv_fast, M=2", mlx_traffic.qmv_fast, 2),
        ("MLX qmv_wide, M=2", mlx_traffic.qmv_wide, 2),
    ]
    for name, run, rows in plans:
        x = r.normal(rows, DIM)
        kernel, y = run(x, *packed)
        yield compared(name, [kernel], y, oracle.int4_matmul(x, *packed))
    tile, x = r.packed(256, DIM), r.normal(64, DIM)
    kernel, y = mlx_traffic.qmm(x, *tile)
    yield compared("MLX qmm_t, M=64, N=256", [kernel], y, oracle.int4_matmul(x, *tile))
    q, k, v = r.normal(2, HEADS, 1, HEAD_DIM), *(r.normal(2, HEADS, SLOTS, HEAD_DIM) for _ in range(2))
    kernel, y = mlx_traffic.sdpa_vector(q, k, v)
    yield compared("MLX sdpa_vector, cache of two rows", [kernel], y, oracle.attention(q, k, v, scale=HEAD_DIM**-0.5))
    q, k, v = r.normal(1, HEADS, 2, HEAD_DIM), *(r.normal(1, HEADS, FRAMES, HEAD_DIM) for _ in range(2))
    kernel, y = mlx_traffic.sdpa_vector(q, k, v)
    expected = oracle.attention(q, k, v, scale=HEAD_DIM**-0.5)
    yield compared("MLX sdpa_vector, prefix as two queries", [kernel], y, expected)


def main() -> None:
    """Print the table as Markdown, a line as soon as it is measured."""
    print("| kernel | launches | must read, MB |", " | ".join(GROUPS), "| activations, MB | threadgroup, KB | error |")
    print("|---" * (len(GROUPS) + 6) + "|")
    for rows in (ours(), stock()):
        for row in rows:
            ratios = " | ".join(f"{row.ratios[g]:.2f}" if g in row.ratios else "" for g in GROUPS)
            print(
                f"| {row.name} | {row.launches} | {row.megabytes:.2f} | {ratios} | {row.activations:.1f} "
                f"| {row.threadgroup_kb:.1f} | {row.error:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
