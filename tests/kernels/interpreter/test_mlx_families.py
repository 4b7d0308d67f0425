"""One kernel of each family of MLX's Metal kernels in check mode, from the headers of its wheel; answers from numpy.

The compilers take turns. Quantized products, attention, softmax and the plain matmul are in test_mlx_kernels.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import pytest

from bench.kernels.mlx_traffic import header
from kernels.interpreter import KernelFault, compilers
from kernels.interpreter.kernel import MetalKernel

from .declared import call
from .test_mlx_kernels import ATOMIC, BF16, EPS, F16, F32, QUANTIZED, attention, folder, normal, wide

__all__ = ["folder"]  # the fixture

Size = tuple[int, int, int]


class Case(NamedTuple):
    """A launch of `kernel<template>`; `error` bounds the difference from `right`.

    also: of further outputs by name, their dtype and what is right, within the same error.
    """

    headers: tuple[str, ...]
    kernel: str
    template: str
    given: dict[str, Any]
    dtype: Any
    right: Any
    grid: Size
    threads: Size
    error: float = 0
    out: str = "out"
    before: str = ""
    texts: Mapping[str, str] = MappingProxyType({})
    constants: Mapping[str, str] = MappingProxyType({})
    init: float | None = None
    also: Mapping[str, tuple[Any, Any]] = MappingProxyType({})


def run(case: Case, index: int, folder: Path, *, plant: tuple[str, str] | None = None) -> MetalKernel:
    """Raises KernelFault; the result is compared with what is right. plant: what to replace in the headers."""
    text = header(*case.headers, folder=folder)
    if plant:
        assert plant[0] in text
        text = text.replace(*plant)
    for name, value in case.constants.items():
        before, _, rest = text.partition(f" {name} [[function_constant(")
        text = f"{before} {name} = {value}" + rest[rest.index("]]") + 2 :]
    outputs = {case.out: (case.dtype, case.right), **case.also}
    statement, inputs = call(text, case.kernel, case.template, case.given, outputs, case.texts)
    using = compilers()[index % len(compilers())]
    source = case.before + statement
    names = [f"{name}_" for name in outputs]
    kernel = MetalKernel(f"mlx_{case.kernel}", list(inputs), names, source, text, using=using)
    results = kernel(
        inputs=list(inputs.values()),
        grid=case.grid,
        threadgroup=case.threads,
        output_shapes=[np.shape(right) for _, right in outputs.values()],
        output_dtypes=[dtype for dtype, _ in outputs.values()],
        check=True,
        seed=index,
        init_value=case.init,
    )
    for y, (dtype, right) in zip(results, outputs.values()):
        got = np.array(y) if dtype not in (F16, BF16) else wide(y)
        assert (np.abs(got - right) <= case.error).all(), np.abs(got - right).max()
    return kernel


def binary_broadcast() -> Case:
    a, b = normal(4, 1, 6), mx.concatenate([normal(5, 1, seed=2)] * 2)  # short inputs would be in constant memory
    given = {"a": a, "b": b, "shape": [4, 5, 6], "a_strides": [6, 0, 1], "b_strides": [0, 1, 0], "ndim": 3}
    right = np.array(a + b[:5])
    return Case(
        ("binary_ops.h", "binary.h"),
        "binary_g",
        "float, float, Add, 2, int",
        given,
        F32,
        right,
        (3, 5, 4),
        (3, 5, 4),
        out="c",
    )


def unary_complex() -> Case:
    rng = np.random.default_rng(0)
    z = rng.normal(size=64) + 1j * rng.normal(size=64)
    given = {"in": mx.array(z.astype(np.complex64)), "size": 64}
    return Case(
        ("unary_ops.h", "unary.h"),
        "unary_v",
        "complex64_t, complex64_t, Sqrt, 1",
        given,
        mx.complex64,
        np.sqrt(z),
        (64, 1, 1),
        (32, 1, 1),
        8 * EPS[F32] * float(np.abs(z).max()),
    )


def copy_transposed() -> Case:
    x = normal(4, 5, 6)
    given = {"src": x, "src_shape": [6, 5, 4], "src_strides": [1, 6, 30], "ndim": 3}
    right = np.array(x.transpose(2, 1, 0).astype(F16))
    return Case(("copy.h",), "copy_g", "float, half, 2, int", given, F16, right, (2, 5, 6), (2, 5, 6), out="dst")


def reduce_rows() -> Case:
    x = normal(6, 300, dtype=F16)
    right = wide(x).sum(1)
    return Case(
        ("reduce_utils.h", "reduce.h"),
        "row_reduce_simple",
        "half, float, Sum<float>",
        {"in": x, "reduction_size": 300, "out_size": 6},
        F32,
        right,
        (96, 2, 1),
        (96, 1, 1),
        300 * EPS[F32] * float(np.abs(wide(x)).sum(1).max()),
    )


def reduce_columns() -> Case:
    x = normal(6, 300, dtype=BF16)
    given = {
        "in": x,
        "reduction_size": 6,
        "reduction_stride": 300,
        "shape": [1],
        "strides": [0],
        "ndim": 1,
        "reduce_shape": [6],
        "reduce_strides": [300],
        "reduce_ndim": 1,
        "non_col_reductions": 1,
        "column_offset": 0,
    }
    return Case(
        ("reduce_utils.h", "reduce.h"),
        "col_reduce_looped",
        "bfloat16_t, float, Max<float>, int, 1, 8, 128",
        given,
        F32,
        wide(x).max(0),
        (768, 1, 1),
        (256, 1, 1),
    )


def scan() -> Case:
    x = mx.array(np.random.default_rng(0).integers(-9, 9, (50, 40)), dtype=mx.int64)
    given = {"in": x, "axis_size": 50, "stride": 40, "stride_blocks": 2}
    return Case(
        ("scan.h",),
        "strided_scan",
        "int64_t, int64_t, CumSum<int64_t>, 4, true, false",
        given,
        mx.int64,
        np.cumsum(np.array(x), 0),
        (256, 2, 1),
        (256, 1, 1),
    )


def sort() -> Case:
    x = normal(3, 200)
    given = {
        "inp": x,
        "size_sorted_axis": 200,
        "in_stride_sorted_axis": 1,
        "out_stride_sorted_axis": 1,
        "in_stride_segment_axis": 200,
        "out_stride_segment_axis": 200,
    }
    return Case(
        ("sort.h",),
        "block_sort",
        "float, uint, true, 64, 4",
        given,
        mx.uint32,
        np.argsort(np.array(x), 1),
        (64, 3, 1),
        (64, 1, 1),
    )


def log_sum_exp() -> Case:
    x = normal(3, 1100)
    right = np.log(np.exp(wide(x)).sum(1))
    return Case(
        ("logsumexp.h",),
        "logsumexp_looped",
        "float",
        {"in": x, "axis_size": 1100},
        F32,
        right,
        (3072, 1, 1),
        (1024, 1, 1),
        1100 * EPS[F32],
    )


def gather() -> Case:
    x, at = normal(20, 30), mx.array(np.random.default_rng(1).integers(-20, 20, (7, 30)), dtype=mx.int32)
    given = {
        "src": x,
        "indices": at,
        "shape": [30],
        "src_strides": [1],
        "idx_strides": [1],
        "ndim": 1,
        "axis": 0,
        "axis_size": 20,
        "src_ax_stride": 30,
        "idx_ax_stride": 30,
    }
    right = np.take_along_axis(np.array(x), np.array(at) % 20, 0)
    return Case(
        ("indexing/gather_axis.h",),
        "gather_axis",
        "float, int, int, true, true",
        given,
        F32,
        right,
        (30, 7, 1),
        (30, 7, 1),
    )


def scatter() -> Case:
    """Sums of halves with atomics on the words that hold two of them."""
    rng = np.random.default_rng(2)
    x, at = mx.array(rng.integers(-8, 8, (7, 30)), dtype=F16), rng.integers(0, 20, (7, 30))
    right = np.zeros((20, 30))
    np.add.at(right, (at, np.arange(30)[None]), wide(x))
    given = {
        "upd": x,
        "indices": mx.array(at, dtype=mx.uint32),
        "shape": [30],
        "upd_strides": [1],
        "idx_strides": [1],
        "ndim": 1,
        "axis": 0,
        "out_axis_size": 20,
        "upd_ax_stride": 30,
        "idx_ax_stride": 30,
    }
    return Case(
        (*ATOMIC, "indexing/scatter_axis.h"),
        "scatter_axis",
        "half, uint, int, Sum<half>, true, true",
        given,
        F16,
        right,
        (30, 7, 1),
        (30, 7, 1),
        texts={"out": "(device mlx_atomic<half>*)out_"},
        init=0,
    )


def quantized_gather() -> Case:
    n, k = 32, 128
    w, s, b = mx.quantize(normal(3, n, k), group_size=64, bits=4)
    x = normal(5, 1, k, seed=3)
    left, right = np.array([4, 0, 2, 1, 3, 0, 1, 2]), np.array([2, 0, 1, 1, 2, 0, 0, 1])
    q = (np.array(w)[..., None] >> (4 * np.arange(8, dtype=np.uint32)) & 15).reshape(3, n, k)
    values = q * np.repeat(wide(s), 64, 2) + np.repeat(wide(b), 64, 2)
    given = {
        "w": w,
        "scales": s,
        "biases": b,
        "x": x,
        "lhs_indices": mx.array(left, dtype=mx.uint32),
        "rhs_indices": mx.array(right, dtype=mx.uint32),
        "in_vec_size": k,
        "out_vec_size": n,
        "x_batch_ndims": 1,
        "x_shape": [5, 1, k],
        "x_strides": [k, k, 1],
        "w_batch_ndims": 1,
        "w_shape": [3, n, k // 8],
        "w_strides": [n * k // 8, k // 8, 1],
        "s_strides": [n * 2, 2, 1],
        "b_strides": [n * 2, 2, 1],
        "batch_ndims": 1,
        "batch_shape": [8],
        "lhs_strides": [1],
        "rhs_strides": [1],
    }
    y = np.einsum("bmk,bnk->bmn", wide(x)[left], values[right])
    bound = 4 * k * EPS[F32] * float((np.abs(wide(x))[left] @ np.abs(values[right]).swapaxes(1, 2)).max())
    return Case(QUANTIZED, "affine_gather_qmv", "float, 64, 4", given, F32, y, (32, 8, 8), (32, 2, 1), bound, out="y")


def four_bit_floats() -> Case:
    """mxfp4: sixteen values of four bits, a power of two for each 32 of them."""
    n, k = 32, 512
    w, s = mx.quantize(normal(n, k), group_size=32, bits=4, mode="mxfp4")
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    q = (np.array(w)[..., None] >> (4 * np.arange(8, dtype=np.uint32)) & 15).reshape(n, k)
    values = np.where(q & 8, -1, 1) * table[q & 7] * np.repeat(2.0 ** (np.array(s).astype(int) - 127), 32, 1)
    x = normal(3, k, seed=4)
    given = {"w": w, "scales": s, "x": x, "in_vec_size": k, "out_vec_size": n, "x_batch_ndims": 0, "w_batch_ndims": 0}
    return Case(
        (*QUANTIZED[:2], "fp_quantized.h"),
        "fp_qmv_fast",
        "float, 32, 4, false",
        given,
        F32,
        wide(x) @ values.T,
        (96, 8, 1),
        (32, 2, 1),
        4 * k * EPS[F32] * float((np.abs(wide(x)) @ np.abs(values).T).max()),
        out="y",
    )


def steel_attention() -> Case:
    h, t, d = 2, 40, 64
    q, k, v = (normal(1, h, t, d, seed=i) for i in range(3))
    tiles = -(-t // 32)
    facts = {
        "B": 1,
        "H": h,
        "D": d,
        "qL": t,
        "kL": t,
        "gqa_factor": 1,
        "scale": 0.125,
        "NQ": tiles,
        "NK": tiles,
        "NQ_aligned": t // 32,
        "NK_aligned": t // 32,
        "qL_rem": t % 32,
        "kL_rem": t % 32,
        "qL_off": 0,
    }
    strides = "".join(f"p.{m}_strides[{i}] = {s};" for m in "QKVO" for i, s in enumerate((h * t * d, t * d, d)))
    before = "mlx::steel::AttnParams p; " + "".join(f"p.{n} = {x};" for n, x in facts.items()) + strides
    flags = ("align_Q", "align_K", "has_mask", "do_causal", "has_sinks")
    weights = 4 * (t + d) * EPS[F32] * float(np.abs(wide(v)).max())
    return Case(
        ("steel/attn/attn.h", "steel/attn/kernels/steel_attention.h"),
        "attention",
        "float, 32, 32, 64, 64, 4, 1, float, float",
        {"Q": q, "K": k, "V": v},
        F32,
        attention(q, k, v),
        (32 * tiles, 4 * h, 1),
        (32, 4, 1),
        weights,
        out="O",
        before=before,
        texts={"params": "(const constant mlx::steel::AttnParams*)&p"},
        constants=dict.fromkeys(flags, "false"),
    )


FAMILIES: tuple[Callable[[], Case], ...] = (
    binary_broadcast,
    unary_complex,
    copy_transposed,
    reduce_rows,
    reduce_columns,
    scan,
    sort,
    log_sum_exp,
    gather,
    scatter,
    quantized_gather,
    four_bit_floats,
    steel_attention,
)


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_a_family(folder: Path, family: Callable[[], Case]) -> None:
    kernel = run(family(), FAMILIES.index(family), folder)
    assert kernel.issues == []


BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);\n\n    "
# Where to plant, what instead of what, and what to find in which statement.
PLANTS: dict[str, tuple[Callable[[], Case], tuple[str, str], set[str], str]] = {
    "missing barrier": (
        reduce_rows,
        (BARRIER + "U values[", "U values["),
        {"race", "uninitialised-read"},
        "shared_vals[lid.x",
    ),
    "barrier of one simdgroup": (
        scan,
        (BARRIER + "// Read strided", "simdgroup_" + BARRIER.removeprefix("threadgroup_") + "// Read strided"),
        {"race", "uninitialised-read"},
        "values[i] = read_from[i]",
    ),
    "unsafe edge": (
        reduce_columns,
        ("bool safe = column + n_reads <= reduction_stride;", "bool safe = true;"),
        {"out-of-bounds"},
        "out[i] = totals[i]",
    ),
    "wrong stride": (
        gather,
        ("idx_val * static_cast<LocT>(src_ax_stride)", "idx_val * (src_ax_stride + 2)"),
        {"out-of-bounds"},
        "out[out_idx] = src[src_idx]",
    ),
    "plain store for an atomic": (
        scatter,
        ("op.atomic_update(out, upd[upd_idx], out_idx);", "((device T*)out)[out_idx] += upd[upd_idx];"),
        {"race"},
        "((device T*)out)[out_idx]",
    ),
}


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_found(folder: Path, name: str) -> None:
    family, plant, kinds, statement = PLANTS[name]
    with pytest.raises(KernelFault) as caught:
        run(family(), FAMILIES.index(family) + 1, folder, plant=plant)
    lines = header(*family().headers, folder=folder).replace(*plant).splitlines()
    found = [i for i in caught.value.issues if statement in lines[i.line - 1]]
    assert found, caught.value
    assert {i.kind for i in found} & kinds
    assert all(f"header line {i.line}:" in str(i) and f"byte {i.offset}," in str(i) for i in found)


@pytest.mark.backend("interpreter")
def test_a_fault_in_the_source_itself_is_found(folder: Path) -> None:
    """gemv: lanes 1..31 skip the barrier between simdgroups, which orders no memory either (`mem_none`)."""
    m, v = normal(64, 128), normal(128, seed=1)
    given = {
        "mat": m,
        "in_vec": v,
        "in_vec_size": 128,
        "out_vec_size": 64,
        "marix_ld": 128,
        "alpha": 1.0,
        "beta": 0.0,
        "batch_ndim": 1,
        "batch_shape": [1],
        "vector_batch_stride": [0],
        "matrix_batch_stride": [0],
        "bias_batch_stride": [0],
        "bias_stride": 1,
    }
    case = Case(
        ("gemv.h",),
        "gemv",
        "float, 1, 8, 1, 32, 4, 4, false, false",
        given,
        F32,
        wide(m) @ wide(v),
        (512, 8, 1),
        (32, 8, 1),
        1,
        out="out_vec",
    )
    with pytest.raises(KernelFault) as caught:
        run(case, 0, folder)
    assert {i.kind for i in caught.value.issues} == {"divergent-barrier", "race"}
    lines = header("gemv.h", folder=folder).splitlines()
    (barrier,) = [i for i in caught.value.issues if i.kind == "divergent-barrier"]
    assert "threadgroup_barrier(mem_flags::mem_none)" in lines[barrier.line - 1]
