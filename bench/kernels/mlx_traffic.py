"""MLX's own Metal kernels, run from their sources in the interpreter, for comparison with ours.

The sources are those that the installed MLX carries (`mlx/include/mlx/backend/metal/kernels`); nothing is copied here.
"""

from __future__ import annotations

import functools
import math
import pathlib
import re
from typing import Any

import mlx.core as mx

KERNELS = pathlib.Path(mx.__file__).parent / "include/mlx/backend/metal/kernels"
# What MLX puts before every custom kernel, so that the interpreter has it already.
PRELUDE = {"utils.h", "bf16.h", "bf16_math.h", "complex.h", "defines.h", "logging.h"}

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"mlx/backend/metal/kernels/([^"]+)".*$', re.MULTILINE)


def _flattened(name: str, folder: pathlib.Path, seen: set[str]) -> str:
    if name in seen or name in PRELUDE:
        return ""
    seen.add(name)
    return _INCLUDE.sub(lambda m: _flattened(m.group(1), folder, seen), (folder / name).read_text())


@functools.cache
def header(*names: str, folder: pathlib.Path = KERNELS) -> str:
    """Return the headers of MLX's kernels in `folder` and all that they include from there, each once, as one text."""
    seen: set[str] = set()
    return "\n".join(_flattened(name, folder, seen) for name in names)


def _launch(
    name: str,
    headers: tuple[str, ...],
    source: str,
    inputs: dict[str, mx.array],
    shape: tuple[int, ...],
    template: list[tuple[str, Any]],
    groups: tuple[int, int, int],
    threads: int,
) -> tuple[Any, mx.array]:
    """(kernel with its counters, result)"""
    from kernels import interpreter

    kernel = interpreter.metal_kernel(f"stock_{name}", list(inputs), ["y"], source, header=header(*headers))
    (y,) = kernel(
        inputs=list(inputs.values()),
        template=template,
        grid=(groups[0] * threads, groups[1], groups[2]),
        threadgroup=(threads, 1, 1),
        output_shapes=[shape],
        output_dtypes=[mx.float16],
        check=True,
        strict=False,
    )
    return kernel, y


_PLACE = "threadgroup_position_in_grid, simdgroup_index_in_threadgroup, thread_index_in_simdgroup"


def qmv_fast(x: mx.array, w: mx.array, scales: mx.array, biases: mx.array) -> tuple[Any, mx.array]:
    """`affine_qmv_fast`: one threadgroup row per row of x, each reads all weights (decode before M3)."""
    (m, k), n = x.shape, w.shape[0]
    inputs = {"x": x, "w": w, "scales": scales, "biases": biases, "sizes": mx.array([k, n], dtype=mx.int32)}
    source = f"qmv_fast_impl<T, 64, 4, false>(w, scales, biases, x, y, sizes[0], sizes[1], {_PLACE});"
    return _launch(
        "qmv_fast",
        ("quantized_utils.h", "steel/gemm/gemm.h", "quantized.h"),
        source,
        inputs,
        (m, n),
        [("T", x.dtype)],
        (m, n // 8, 1),
        64,
    )


def qmv_wide(x: mx.array, w: mx.array, scales: mx.array, biases: mx.array) -> tuple[Any, mx.array]:
    """`affine_qmv_wide`: the rows of x share a read of the weights (decode from M3 on)."""
    (m, k), n = x.shape, w.shape[0]
    inputs = {"x": x, "w": w, "scales": scales, "biases": biases, "sizes": mx.array([k, n, m], dtype=mx.int32)}
    source = f"qmv_wide_impl<T, 64, 4, {m}, 8>(w, scales, biases, x, y, sizes[0], sizes[1], sizes[2], {_PLACE});"
    return _launch(
        "qmv_wide",
        ("quantized_utils.h", "steel/gemm/gemm.h", "quantized.h"),
        source,
        inputs,
        (m, n),
        [("T", x.dtype)],
        (1, n // 8, 1),
        64,
    )


def qmm(x: mx.array, w: mx.array, scales: mx.array, biases: mx.array) -> tuple[Any, mx.array]:
    """`affine_qmm_t`: tiles of 32 x 32 (prefill)."""
    (m, k), n = x.shape, w.shape[0]
    inputs = {"x": x, "w": w, "scales": scales, "biases": biases, "sizes": mx.array([k, n, m], dtype=mx.int32)}
    source = f"""
  threadgroup T xs[32 * (32 + 16 / sizeof(T))];
  threadgroup T ws[32 * (32 + 16 / sizeof(T))];
  qmm_t_impl<T, 64, 4, true>(
      w, scales, biases, x, y, xs, ws, sizes[0], sizes[1], sizes[2], sizes[0],
      threadgroup_position_in_grid, thread_index_in_threadgroup, {_PLACE.split(", ", 1)[1]});
"""
    return _launch(
        "qmm_t",
        ("quantized_utils.h", "steel/gemm/gemm.h", "quantized.h"),
        source,
        inputs,
        (m, n),
        [("T", x.dtype)],
        (n // 32, -(-m // 32), 1),
        128,
    )


def sdpa_vector(q: mx.array, k: mx.array, v: mx.array) -> tuple[Any, mx.array]:
    """`sdpa_vector`: a threadgroup of 1024 threads per head and query; q [B,H,T,D], k, v [B,H,S,D]."""
    (b, h, t, d), s = q.shape, k.shape[2]
    inputs = {
        "q": q,
        "k": k,
        "v": v,
        "sizes": mx.array([1, s, 0], dtype=mx.int32),
        "strides": mx.array([s * d, d], dtype=mx.uint64),
        "scale": mx.array([1 / math.sqrt(d)]),
    }
    source = f"""
  sdpa_vector<T, {d}>(
      q, k, v, y, sizes[0], sizes[1], strides[0], strides[1], strides[0], strides[1], scale[0], nullptr, nullptr,
      sizes[2], sizes[2], sizes[2], nullptr, sizes[2], threadgroup_position_in_grid, threadgroups_per_grid,
      simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
"""
    return _launch("sdpa_vector", ("sdpa_vector.h",), source, inputs, q.shape, [("T", q.dtype)], (b * h, t, 1), 1024)
