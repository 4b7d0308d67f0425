"""Bytes that Metal kernels ask for, counted while the interpreter runs their source on the CPU.

`python -m kernels.beside_mlx.traffic` prints what ours and MLX's own read over what they must, at MusicGen-large's
shapes. Loads are counted before any cache: neighbors in a simdgroup that ask for one address count each. So a ratio
says how often a design asks for its weights, and is the same on every machine; it is no model of time. No GPU is
involved.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from reference import oracle
from reference.contract import Packed

from .. import interpreter
from ..cases import Arguments, Draw, call, cross_attention, exact, matmul, prefix_attention
from ..metal import MetalOps
from ..metal.engine import Engine
from . import mlx_kernels

DIM, HEADS, HEAD_DIM, FFN = 2048, 32, 64, 8192
SLOTS, FRAMES, TEXT = 251, 251, 12  # a 5 s edit: 251 positions, as many prefix frames, a short instruction
GROUPS = {"weights": ("w",), "scales": ("scales", "biases"), "cache": ("k", "v"), "prefix": ("prefix_k", "prefix_v")}
UNIFORM = ("_shape", "_strides", "_ndim", "sizes", "strides", "scale", "gate", "length", "eps")
"""Endings of the names of constants, which are the same in all threads."""


def counting_ops() -> tuple[MetalOps, list[Any]]:
    """Return the Metal operations on the interpreter in check mode, and the list of kernels that they build.

    Each kernel's `counters` hold the bytes `loaded` from a buffer, and `unique_loaded`, each byte once.
    """
    built: list[Any] = []

    def build(**options: Any) -> Any:
        built.append(interpreter.metal_kernel(**options))
        return built[-1]

    return MetalOps("interpreter", Engine(build, {"check": True})), built


def by_buffer(kernels: list[Any], group: Callable[[str], str | None]) -> dict[str, dict[str, int]]:
    """Sum the counters of kernels that ran by `group(buffer)`: bytes `loaded` and `needed`.

    A group of None is left out.
    """
    found: dict[str, dict[str, int]] = {}
    for kernel in kernels:
        for buffer, counter in kernel.counters.items():
            if (name := group(buffer)) is not None:
                entry = found.setdefault(name, {"loaded": 0, "needed": 0})
                entry["loaded"] += counter.loaded
                entry["needed"] += counter.unique_loaded
    return found


def run(operation: str, arguments: Arguments) -> tuple[list[Any], mx.array]:
    """Run a call of ours in the interpreter, in float16.

    Return its kernels, which hold their counters, and the result.
    """
    ops, built = counting_ops()
    result = call(ops, operation, arguments)
    mx.eval(result)
    return built, result


@dataclass(frozen=True)
class TrafficRow:
    """One line of the table: bytes loaded over bytes that must be read, by group of buffers."""

    name: str
    launches: int
    megabytes: float  # that must be read
    ratios: dict[str, float]
    activations: float  # megabytes of x, q, norm and residual asked for: a few KB that stay in the cache
    threadgroup_kb: float
    error: float  # largest error over the largest magnitude, against the oracle


def compared(name: str, operation: str, arguments: Arguments, kernels: list[Any], result: mx.array) -> TrafficRow:
    """Make the line of a run whose kernels hold their counters."""

    def group(buffer: str) -> str | None:
        if buffer.endswith(UNIFORM):
            return None
        return next((g for g, names in GROUPS.items() if buffer in names), "activations")

    found = by_buffer(kernels, group)
    ratios = {g: found[g]["loaded"] / found[g]["needed"] for g in GROUPS if g in found and found[g]["needed"]}
    expected = exact(operation, arguments)
    error = float(np.abs(oracle.float64(result).reshape(expected.shape) - expected).max() / np.abs(expected).max())
    megabytes, activations = sum(f["needed"] for f in found.values()) / 1e6, found["activations"]["loaded"] / 1e6
    threadgroup = max(kernel.threadgroup_bytes for kernel in kernels) / 1024
    return TrafficRow(name, len(kernels), megabytes, ratios, activations, threadgroup, error)


def measured(name: str, operation: str, **arguments: Any) -> TrafficRow:
    """Make the line of one call of ours."""
    return compared(name, operation, arguments, *run(operation, arguments))


def ours() -> Iterator[TrafficRow]:
    """Yield the kernels of a decode step, and the tiled one."""
    shapes = {f"norm + q, k, v, M={rows}": matmul("", rows, 3 * DIM, DIM, norm=True) for rows in (1, 2, 4, 8)} | {
        "out + residual, M=2": matmul("", 2, DIM, DIM, residual=True),
        "norm + linear1 + gelu, M=2": matmul("", 2, FFN, DIM, norm=True, gelu=True),
        "linear2 + residual, M=2": matmul("", 2, DIM, FFN, residual=True),
        "prefill tile, M=64, N=256": matmul("", 64, 256, DIM),
        "prefix attention, pair": prefix_attention("", 2, HEADS, HEAD_DIM, length=SLOTS, slots=SLOTS, prefix=FRAMES),
        "norm + q + text attention": cross_attention(2, HEADS, HEAD_DIM, text=TEXT),
    }
    for name, case in shapes.items():
        yield measured(name, case.operation, **case.make(Draw()))


def stock() -> Iterator[TrafficRow]:
    """Yield MLX's kernels for the same work.

    Norm, bias, gelu, residual, gate and sums are not in them: MLX launches those apart.
    """
    r = Draw()
    products: list[tuple[str, Callable[[mx.array, Packed], mlx_kernels.Stock], int, int]] = [
        ("MLX qmv_fast, M=1", mlx_kernels.qmv_fast, 1, DIM),
        ("MLX qmv_fast, M=2", mlx_kernels.qmv_fast, 2, DIM),
        ("MLX qmv_wide, M=2", mlx_kernels.qmv_wide, 2, DIM),
        ("MLX qmm_t, M=64, N=256", mlx_kernels.qmm, 64, 256),
    ]
    for name, product, m, n in products:
        x, w = r.normal(m, DIM), r.packed(n, DIM)
        kernel, y = product(x, w).run()
        yield compared(name, "int4_matmul", {"x": x, "w": w}, [kernel], y)
    for name, rows, steps in (("cache of two rows", 2, 1), ("prefix as two queries", 1, 2)):
        q, k, v = r.normal(rows, HEADS, steps, HEAD_DIM), *(r.normal(rows, HEADS, SLOTS, HEAD_DIM) for _ in "kv")
        kernel, y = mlx_kernels.sdpa_vector(q, k, v).run()
        arguments = {"q": q, "k": k, "v": v, "scale": HEAD_DIM**-0.5}
        yield compared(f"MLX sdpa_vector, {name}", "attention", arguments, [kernel], y)


def main() -> None:
    """Print the table as Markdown, a line as soon as it is measured."""
    print("| kernel | launches | must read, MB |", " | ".join(GROUPS), "| activations, MB | threadgroup, KB | error |")
    print("|---" * (len(GROUPS) + 6) + "|")
    for row in itertools.chain(ours(), stock()):
        ratios = [f"{row.ratios[g]:.2f}" if g in row.ratios else "" for g in GROUPS]
        sizes = [f"{row.activations:.1f}", f"{row.threadgroup_kb:.1f}", f"{row.error:.1e}"]
        print("|", " | ".join([row.name, str(row.launches), f"{row.megabytes:.2f}", *ratios, *sizes]), "|", flush=True)


if __name__ == "__main__":
    main()
