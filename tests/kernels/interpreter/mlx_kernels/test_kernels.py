"""MLX's own Metal kernels through the interpreter, in check mode: sources that nobody here wrote, with known answers.

The headers come from the wheel for macOS, `mlx-metal`; where no registry answers, from the installed MLX (which carries
the same files), and the suite's last lines say so. Answers are computed in float64 by numpy. Tolerances: half a unit of
the result's type at its largest value, plus float32 sums of K products.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels.beside_mlx.mlx_kernels import PRELUDE, header
from kernels.interpreter.kernel import MetalKernel

from . import wheel
from .launch import ATOMIC, BF16, EPS, F16, F32, QUANTIZED, Wide, attention, normal, wide

SIMD = "simdgroup_index_in_threadgroup, thread_index_in_simdgroup"
GROUP = "threadgroup_position_in_grid"


@pytest.fixture
def gpu_like(using: Any, folder: Path) -> Any:
    """Runs a source against MLX's headers: (headers, source, inputs, outputs, dtype, groups, threads, constants)."""

    def run(
        headers: tuple[str, ...],
        source: str,
        inputs: dict[str, mx.array],
        outputs: list[tuple[tuple[int, ...], Any]],
        dtype: Any,
        groups: tuple[int, int, int],
        threads: tuple[int, int, int],
        **constants: str,
    ) -> list[mx.array]:
        text = header(*headers, folder=folder)
        for name, value in constants.items():  # as MLX's host code sets function constants
            kind, _, rest = text.partition(f" {name} [[function_constant(")
            assert rest, name
            text = f"{kind} {name} = {value}" + rest[rest.index("]]") + 2 :]
        kernel = MetalKernel("mlx_kernel", list(inputs), ["y", "y2", "y3"][: len(outputs)], source, text, using=using)
        result = kernel(
            inputs=list(inputs.values()),
            template=[("T", dtype)],
            threadgroup=threads,
            check=True,
            grid=tuple(g * t for g, t in zip(groups, threads)),
            output_shapes=[shape for shape, _ in outputs],
            output_dtypes=[kind for _, kind in outputs],
        )
        assert kernel.issues == []
        assert all(c.stored for name, c in kernel.counters.items() if name in ("y", "y2", "y3"))
        return result

    return run


def test_the_wheel_for_macos_was_fetched() -> None:
    """A skip here is repeated in the suite's last lines."""
    if problem := wheel.fetch():
        pytest.skip(f"NOT run on the wheel's headers: {problem}")
    assert (wheel.KEPT / "quantized.h").stat().st_size > 10_000


# What a header expects before it, as MLX's host code has it. The nax headers are for Metal 4's tensor operations.
FIRST = {
    "quantized.h": QUANTIZED[:2],
    "fp_quantized.h": QUANTIZED[:2],
    "indexing/scatter.h": ("indexing/indexing.h",),
    "searchsorted.h": ("sort.h",),
    "steel/gemm/kernels": ("steel/gemm/gemm.h",),
    "steel/conv/": ("steel/conv/conv.h",),
    "steel/attn/kernels": ("steel/attn/attn.h",),
}
SHARES = 6
"""The headers in parts, which workers share: on an empty cache compiling them all takes long."""


@pytest.mark.parametrize("share", range(SHARES))
def test_every_header_compiles(using: Any, folder: Path, share: int) -> None:
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.h") if "nax" not in p.name)
    assert len(found) > 70
    for name in found[share::SHARES]:
        if name in PRELUDE:
            continue
        first = next((f for start, f in FIRST.items() if name.startswith(start)), ())
        first = (*ATOMIC, *first) if "reduc" in name or "scatter" in name else first
        text = header(*first, name, folder=folder)
        kernel = MetalKernel("header_alone", [], ["out"], "out[thread_position_in_grid.x] = 1;", text, using=using)
        kernel(inputs=[], grid=(1, 1, 1), threadgroup=(1, 1, 1), output_shapes=[(1,)], output_dtypes=[F32])


def close(y: mx.array, right: Wide, dtype: Any, terms: int, size: float) -> None:
    """|y - right| <= eps |right| of the rounding + float32's eps * terms * the size of the summands."""
    error = np.abs(wide(y) - right)
    assert np.isfinite(wide(y)).all()
    assert np.abs(right).max() > 0
    assert (error <= 2 * EPS[dtype] * np.abs(right) + EPS[F32] * 4 * terms * size).all(), error.max()


def packed(n: int, k: int, bits: int, dtype: Any) -> tuple[dict[str, mx.array], Wide]:
    """Random quantized weights and their values, group size 64."""
    rng = np.random.default_rng(bits)
    q = rng.integers(0, 2**bits, (n, k))
    per_word = 32 // bits
    words = (q.reshape(n, -1, per_word).astype(np.uint64) << (np.arange(per_word, dtype=np.uint64) * bits)).sum(-1)
    s, b = (mx.array(rng.normal(size=(n, k // 64)) / math.sqrt(k), dtype=dtype) for _ in range(2))
    values = q * np.repeat(wide(s), 64, 1) + np.repeat(wide(b), 64, 1)
    return {"w": mx.array(words.astype(np.uint32)), "s": s, "b": b}, np.asarray(values, dtype=np.float64)


@pytest.mark.parametrize(
    ("kind", "m", "n", "k", "bits", "dtype"),
    [
        ("fast", 2, 24, 512, 4, F16),
        ("fast", 1, 8, 512, 8, BF16),
        ("impl", 2, 37, 192, 4, F32),
        ("quad", 2, 64, 128, 4, F16),
    ],
)
def test_quantized_matvec(gpu_like: Any, kind: str, m: int, n: int, k: int, bits: int, dtype: Any) -> None:
    weights, values = packed(n, k, bits, dtype)
    x = normal(m, k, dtype=dtype)
    arguments = f"w, s, b, x, y, sizes[0], sizes[1], {GROUP}"
    lanes = "quadgroup_index_in_threadgroup, thread_index_in_quadgroup" if kind == "quad" else SIMD
    template = {"fast": f"fast_impl<T, 64, {bits}, false>", "impl": f"impl<T, 64, {bits}>"}
    source = f"qmv_{template.get(kind, f'quad_impl<T, 64, {bits}, {k}>')}({arguments}, {lanes});"
    groups, threads = (m, -(-n // (64 if kind == "quad" else 8)), 1), 32 if kind == "quad" else 64
    inputs = {**weights, "x": x, "sizes": mx.array([k, n])}
    (y,) = gpu_like(QUANTIZED, source, inputs, [((m, n), dtype)], dtype, groups, (threads, 1, 1))
    close(y, wide(x) @ values.T, dtype, k, float(np.abs(values).max() * 4 * 2**bits / k**0.5))


@pytest.mark.parametrize(
    ("m", "n", "dtype", "aligned"), [(40, 64, F16, True), (7, 32, BF16, True), (33, 50, F32, False)]
)
def test_quantized_tiles(gpu_like: Any, m: int, n: int, dtype: Any, aligned: bool) -> None:
    k = 128
    weights, values = packed(n, k, 4, dtype)
    x = normal(m, k, dtype=dtype)
    source = f"""
threadgroup T xs[32 * (32 + 16 / sizeof(T))];
threadgroup T ws[32 * (32 + 16 / sizeof(T))];
qmm_t_impl<T, 64, 4, {str(aligned).lower()}>(w, s, b, x, y, xs, ws, sizes[0], sizes[1], sizes[2], sizes[0],
    {GROUP}, thread_index_in_threadgroup, {SIMD});"""
    inputs = {**weights, "x": x, "sizes": mx.array([k, n, m])}
    (y,) = gpu_like(QUANTIZED, source, inputs, [((m, n), dtype)], dtype, (-(-n // 32), -(-m // 32), 1), (128, 1, 1))
    # Worst case: the tile holds weights rounded to T, and float32 sums K products.
    bound = (4 * EPS[dtype] + k * EPS[F32]) * np.abs(wide(x)).sum(1, keepdims=True) * np.abs(values).max()
    assert (np.abs(wide(y) - wide(x) @ values.T) <= bound).all()


def sdpa_inputs(b: int, h: int, t: int, s: int, d: int, dtype: Any) -> dict[str, mx.array]:
    return {
        **{name: normal(b, h, n, d, dtype=dtype, seed=i) for i, (name, n) in enumerate((("q", t), ("k", s), ("v", s)))},
        "sizes": mx.array([1, s, 0]),
        "strides": mx.array([s * d, d], dtype=mx.uint64),
        "scale": mx.array([1 / math.sqrt(d)]),
    }


@pytest.mark.parametrize(("t", "s", "d", "dtype"), [(1, 77, 64, F16), (3, 40, 128, F32)])
def test_vector_attention(gpu_like: Any, t: int, s: int, d: int, dtype: Any) -> None:
    inputs = sdpa_inputs(2, 2, t, s, d, dtype)
    source = f"""sdpa_vector<T, {d}>(q, k, v, y, sizes[0], sizes[1], strides[0], strides[1], strides[0], strides[1],
    scale[0], nullptr, nullptr, sizes[2], sizes[2], sizes[2], nullptr, sizes[2], {GROUP},
    threadgroups_per_grid, {SIMD});"""
    q, k, v = (inputs[n] for n in "qkv")
    (y,) = gpu_like(("sdpa_vector.h",), source, inputs, [(q.shape, dtype)], dtype, (4, t, 1), (1024, 1, 1))
    close(y, attention(q, k, v), dtype, s + d, 4)


def test_attention_in_two_passes(gpu_like: Any) -> None:
    h, s, d, blocks, dtype = 2, 100, 64, 32, F16
    inputs = sdpa_inputs(1, h, 1, s, d, dtype)
    source = f"""sdpa_vector_2pass_1<T, {d}>(q, k, v, y, y2, y3, sizes[1], strides[0], strides[1], strides[0],
    strides[1], scale[0], nullptr, nullptr, sizes[2], sizes[2], sizes[2], nullptr, threads_per_threadgroup,
    thread_position_in_threadgroup, {GROUP}, threadgroups_per_grid, thread_index_in_simdgroup);"""
    outputs = [((h, blocks, d), dtype), ((h, blocks), F32), ((h, blocks), F32)]
    parts = gpu_like(("sdpa_vector.h",), source, inputs, outputs, dtype, (h, 1, blocks), (32, 1, 1), blocks=str(blocks))
    joined = dict(zip(("p", "sums", "maxs"), parts)) | {"n": mx.array([blocks])}
    source = f"sdpa_vector_2pass_2<T, {d}>(p, sums, maxs, y, n[0], {GROUP}, threadgroups_per_grid, {SIMD});"
    q, k, v = (inputs[n] for n in "qkv")
    (y,) = gpu_like(
        ("sdpa_vector.h",), source, joined, [(q.shape, dtype)], dtype, (h, 1, 1), (1024, 1, 1), blocks=str(blocks)
    )
    right = attention(q, k, v)
    assert np.abs(wide(y) - right).max() <= 4 * EPS[dtype] * np.abs(wide(v)).max()  # the parts are rounded to T too


@pytest.mark.parametrize(("n", "looped", "dtype"), [(203, False, F16), (1100, True, BF16)])
def test_softmax(gpu_like: Any, n: int, looped: bool, dtype: Any) -> None:
    x = normal(3, n, dtype=dtype)
    place, size = f"{GROUP}.x, thread_position_in_threadgroup.x", "threads_per_threadgroup.x, " if looped else ""
    lanes = ", ".join(reversed(SIMD.split(", ")))
    source = f"softmax_{'looped' if looped else 'single_row'}<T, float>(x, y, n, {place}, {size}{lanes});"
    inputs = {"x": x, "n": mx.array(n)}
    threads = 1024 if looped else (-(-n // 4) + 31) // 32 * 32
    (y,) = gpu_like(("softmax.h",), source, inputs, [(x.shape, dtype)], dtype, (3, 1, 1), (threads, 1, 1))
    e = np.exp(wide(x))
    close(y, e / e.sum(-1, keepdims=True), dtype, n, float((e / e.sum(-1, keepdims=True)).max()))


@pytest.mark.parametrize(("m", "n", "k", "dtype"), [(64, 32, 48, F32), (50, 40, 37, F16)])
def test_steel_matmul(gpu_like: Any, m: int, n: int, k: int, dtype: Any) -> None:
    a, b = normal(m, k, dtype=dtype), normal(n, k, dtype=dtype, seed=1)
    tiles = (-(-n // 32), -(-m // 32))
    sizes = [m, n, k, k, k, n, *tiles]
    source = f"""
const mlx::steel::GEMMParams p = {{{", ".join(map(str, sizes))}, 0, 0, 0, 0, {k // 16}, 0}};
threadgroup T as[32 * (16 + 16 / sizeof(T))], bs[32 * (16 + 16 / sizeof(T))];
using Kernel = mlx::steel::GEMMKernel<T, T, 32, 32, 16, 2, 2, false, true, {aligned(m, n, k)}>;
const device T* left = a;
const device T* right = b;
device T* out = y;
Kernel::run(left, right, out, (const constant mlx::steel::GEMMParams*)&p, as, bs, {SIMD.split(", ")[1]},
    {SIMD.split(", ")[0]}, {GROUP}, thread_position_in_threadgroup);"""
    inputs = {"a": a, "b": b}
    (y,) = gpu_like(("steel/gemm/gemm.h",), source, inputs, [((m, n), dtype)], dtype, (*tiles, 1), (32, 2, 2))
    close(y, wide(a) @ wide(b).T, dtype, k, 16)


def aligned(m: int, n: int, k: int) -> str:
    return f"{str(m % 32 == n % 32 == 0).lower()}, {str(k % 16 == 0).lower()}"
