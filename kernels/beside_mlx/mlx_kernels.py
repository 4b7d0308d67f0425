"""MLX's own Metal kernels, run from their sources in the interpreter, for comparison with ours.

The sources are those that the installed MLX carries (`mlx/include/mlx/backend/metal/kernels`); nothing is copied here.
Each function makes a launch, to run or to compile.
"""

from __future__ import annotations

import functools
import math
import pathlib
import re
import warnings
from dataclasses import dataclass

import mlx.core as mx

from reference.contract import Packed

from ..interpreter.frontend.signature import Signature
from ..interpreter.kernel import MetalKernel, metal_kernel
from ..interpreter.threads import ManyThreads

KERNELS = pathlib.Path(mx.__file__).parent / "include/mlx/backend/metal/kernels"
# What MLX puts before every custom kernel, so that the interpreter has it already.
PRELUDE = {"utils.h", "bf16.h", "bf16_math.h", "complex.h", "defines.h", "logging.h"}

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"mlx/backend/metal/kernels/([^"]+)".*$', re.MULTILINE)
_PLACE = "threadgroup_position_in_grid, simdgroup_index_in_threadgroup, thread_index_in_simdgroup"


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


@dataclass(frozen=True)
class Stock:
    """A launch of one of MLX's kernels, which makes `y`."""

    kernel: MetalKernel
    inputs: list[mx.array]
    shape: tuple[int, ...]
    grid: tuple[int, int, int]
    threadgroup: tuple[int, int, int]

    def signature(self) -> Signature:
        """Return the kernel's text as it is compiled."""
        return self.kernel.signature(self.inputs, [mx.float16], self._template)

    def run(self) -> tuple[MetalKernel, mx.array]:
        """Run the launch in check mode. Return the kernel, with its counters, and the result."""
        with warnings.catch_warnings():  # MLX knows what its own launches take
            warnings.simplefilter("ignore", ManyThreads)
            (y,) = self.kernel(
                inputs=self.inputs,
                template=self._template,
                grid=self.grid,
                threadgroup=self.threadgroup,
                output_shapes=[self.shape],
                output_dtypes=[mx.float16],
                check=True,
                strict=False,
            )
        return self.kernel, y

    @property
    def _template(self) -> list[tuple[str, mx.Dtype]]:
        return [("T", self.inputs[0].dtype)]


def _stock(
    name: str, headers: str, source: str, inputs: dict[str, mx.array], shape: tuple[int, ...], grid: tuple[int, ...]
) -> Stock:
    """Make a launch of `source`; `grid`: threadgroups along x and y, and the threads of each."""
    kernel = metal_kernel(f"stock_{name}", list(inputs), ["y"], source, header=headers)
    across, down, threads = grid
    return Stock(kernel, list(inputs.values()), shape, (across * threads, down, 1), (threads, 1, 1))


def _product(name: str, source: str, x: mx.array, w: Packed, *grid: int) -> Stock:
    """Make a launch of one of the kernels in `quantized.h`; `grid` as in `_stock`."""
    sizes = mx.array([w.shape[1], w.shape[0], x.shape[0]], dtype=mx.int32)
    inputs = {"x": x, "w": w.w, "scales": w.scales, "biases": w.biases, "sizes": sizes}
    headers = header("quantized_utils.h", "steel/gemm/gemm.h", "quantized.h")
    return _stock(name, headers, source, inputs, (x.shape[0], w.shape[0]), grid)


def qmv_fast(x: mx.array, w: Packed) -> Stock:
    """Make a launch of `affine_qmv_fast`: a threadgroup row for each row of x, each of which reads all weights.

    MLX decodes with it before M3.
    """
    source = f"qmv_fast_impl<T, 64, 4, false>(w, scales, biases, x, y, sizes[0], sizes[1], {_PLACE});"
    return _product("qmv_fast", source, x, w, x.shape[0], w.shape[0] // 8, 64)


def qmv_wide(x: mx.array, w: Packed) -> Stock:
    """Make a launch of `affine_qmv_wide`, in which the rows of x share a read of the weights.

    MLX decodes with it from M3 on.
    """
    rows = x.shape[0]
    source = f"qmv_wide_impl<T, 64, 4, {rows}, 8>(w, scales, biases, x, y, sizes[0], sizes[1], sizes[2], {_PLACE});"
    return _product("qmv_wide", source, x, w, 1, w.shape[0] // 8, 64)


def qmm(x: mx.array, w: Packed) -> Stock:
    """Make a launch of `affine_qmm_t`, in tiles of 32 x 32, with which MLX prefills."""
    source = f"""
  threadgroup T xs[32 * (32 + 16 / sizeof(T))];
  threadgroup T ws[32 * (32 + 16 / sizeof(T))];
  qmm_t_impl<T, 64, 4, true>(
      w, scales, biases, x, y, xs, ws, sizes[0], sizes[1], sizes[2], sizes[0],
      threadgroup_position_in_grid, thread_index_in_threadgroup, {_PLACE.split(", ", 1)[1]});
"""
    return _product("qmm_t", source, x, w, w.shape[0] // 32, -(-x.shape[0] // 32), 128)


def sdpa_vector(q: mx.array, k: mx.array, v: mx.array) -> Stock:
    """Make a launch of `sdpa_vector`: 1024 threads for each head and query; q [B,H,T,D], k, v [B,H,S,D]."""
    (b, h, t, d), s = q.shape, k.shape[2]
    inputs = {"q": q, "k": k, "v": v, "sizes": mx.array([1, s, 0], dtype=mx.int32)}
    inputs |= {"strides": mx.array([s * d, d], dtype=mx.uint64), "scale": mx.array([1 / math.sqrt(d)])}
    source = f"""
  sdpa_vector<T, {d}>(
      q, k, v, y, sizes[0], sizes[1], strides[0], strides[1], strides[0], strides[1], scale[0], nullptr, nullptr,
      sizes[2], sizes[2], sizes[2], nullptr, sizes[2], threadgroup_position_in_grid, threadgroups_per_grid,
      simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
"""
    return _stock("sdpa_vector", header("sdpa_vector.h"), source, inputs, q.shape, (b * h, t, 1024))
