"""What the kernels read over what they must, at MusicGen-large shapes: `python -m bench.kernels.decode_traffic`.

The interpreter runs our kernels and MLX's own from their sources in check mode, counts every load, and the results are
compared with the float64 oracle. Loads are counted before any cache: neighbours in a simdgroup that ask for one address
count each. So a ratio says how often a design asks for its weights; it is no model of time. No GPU is involved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from kernels.metal import MetalOps
from kernels.metal.engine import Engine
from reference import oracle

from . import mlx_traffic

DIM, HEADS, HEAD_DIM, FFN = 2048, 32, 64, 8192
SLOTS, FRAMES, TEXT = 251, 251, 12  # a 5 s edit: 251 positions, as many prefix frames, a short instruction
GROUPS = {"weights": ("w",), "scales": ("scales", "biases"), "cache": ("k", "v"), "prefix": ("prefix_k", "prefix_v")}
# Constants, the same in all threads.
UNIFORM = ("_shape", "_strides", "_ndim", "sizes", "strides", "scale", "gate", "length", "eps")


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
    """The line of a run whose kernels hold their counters."""
    needed: dict[str, int] = {}
    loaded: dict[str, int] = {}
    for kernel in kernels:
        for buffer, c in kernel.counters.items():
            if buffer.endswith(UNIFORM):
                continue
            group = next((g for g, names in GROUPS.items() if buffer in names), "activations")
            needed[group] = needed.get(group, 0) + c.unique_loaded
            loaded[group] = loaded.get(group, 0) + c.loaded
    ratios = {g: loaded[g] / needed[g] for g in GROUPS if needed.get(g)}
    error = float(np.abs(oracle.float64(result).reshape(expected.shape) - expected).max() / np.abs(expected).max())
    memory = max(kernel.threadgroup_bytes for kernel in kernels) / 1024
    activations = loaded["activations"] / 1e6
    return Row(name, len(kernels), sum(needed.values()) / 1e6, ratios, activations, memory, error)


class Inputs:
    """Seeded arrays in float16."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(1)

    def normal(self, *shape: int) -> mx.array:
        """Of mean 0 and deviation 1."""
        return mx.array(self.rng.standard_normal(shape, dtype=np.float32)).astype(mx.float16)

    def packed(self, n: int, k: int) -> tuple[mx.array, mx.array, mx.array]:
        """w, scales and biases of an [n, k] matrix whose products stay of order 1."""
        w, scales, biases = mx.quantize(self.normal(n, k) / math.sqrt(k), group_size=64, bits=4)
        return w, scales, biases

    def norm(self) -> tuple[mx.array, mx.array, float]:
        """Weight, bias and epsilon of a layer norm over DIM."""
        return 1 + self.normal(DIM) / 10, self.normal(DIM) / 10, 1e-5


def measured(name: str, operation: str, *args: Any, **options: Any) -> Row:
    """One call of ours, and of the oracle's function of the same name."""
    from kernels import interpreter

    built: list[Any] = []

    def build(**kwargs: Any) -> Any:
        built.append(interpreter.metal_kernel(**kwargs))
        return built[-1]

    result = getattr(MetalOps("interpreter", Engine(build, {"check": True})), operation)(*args, **options)
    return compared(name, built, result, getattr(oracle, operation)(*args, **options))


def ours() -> Iterator[Row]:
    """The kernels of a decode step, and the tiled one."""
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
        "norm + q + text attention", "cross_attention", r.normal(2, 1, DIM), *r.packed(DIM, DIM), *text, scale=scale,
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
