"""More families of MLX's Metal kernels in check mode: transforms, convolutions, products by parts, indexes, sorting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from .test_mlx_families import Case, run
from .test_mlx_kernels import ATOMIC, BF16, EPS, F16, F32, QUANTIZED, folder, normal, wide

__all__ = ["folder"]  # the fixture


def product(a: Any, b: Any) -> float:
    """A bound of the error of float32's a @ b."""
    return 4 * a.shape[-1] * EPS[F32] * float((np.abs(a) @ np.abs(b)).max())


def fourier(n: int, threads: int, radices: dict[int, int], elements: int, two: bool) -> Case:
    rng = np.random.default_rng(n)
    z = (rng.normal(size=(4, n)) + 1j * rng.normal(size=(4, n))).astype(np.complex64)
    constants = {"elems_per_thread_": str(elements), "is_power_of_2_": str(two).lower()}
    constants |= {f"radix_{r}_steps_": str(times) for r, times in radices.items()}
    right = np.fft.fft(z)
    texts = {"in": "(const device float2*)in_", "out": "(device float2*)out_"}
    return Case(
        ("fft.h",),
        "fft",
        "256, float2, float2",
        {"in": mx.array(z), "n": n, "batch_size": 4},
        mx.complex64,
        right,
        (2, 2, threads),
        (1, 2, threads),
        16 * np.log2(n) * EPS[F32] * float(np.abs(right).max()),
        texts=texts,
        constants=constants,
    )


def fourier_of_64() -> Case:
    return fourier(64, 8, {8: 2}, 8, True)


def fourier_of_60() -> Case:
    return fourier(60, 12, {5: 1, 4: 1, 3: 1}, 5, False)


def hadamard() -> Case:
    n, x = 64, normal(3, 64, dtype=F16)
    signs = np.array([[(-1) ** bin(i & j).count("1") for j in range(n)] for i in range(n)])
    right = wide(x) @ signs / 8
    return Case(
        ("hadamard.h",),
        "hadamard_n",
        "half, 64, 16, 4",
        {"in": x, "scale": 0.125},
        F16,
        right,
        (4, 3, 1),
        (4, 1, 1),
        4 * EPS[F16] * float(8 * np.abs(right).max()),
    )


def convolved(x: Any, w: Any, stride: int) -> Any:
    """x [N,H,W,C], w [O,3,3,C], padding 1 -> [N,H/stride,W/stride,O]"""
    h, n = x.shape[1], x.shape[1] // stride
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, i : i + h : stride, j : j + h : stride][:, :n, :n] @ w[:, i, j].T for i in range(3) for j in range(3)
    )


def convolution(stride: int, c: int, steps: int) -> tuple[dict[str, mx.array], Any, float, str]:
    """(inputs, what is right, a bound of the error, code that fills in the parameters); steps: of 16 channels"""
    h, o, m = 8, 10, 8 // stride
    x, w = normal(2, h, h, c), normal(o, 3, 3, c, seed=1)
    right = convolved(wide(x), wide(w), stride)
    bound = 9 * c * 4 * EPS[F32] * float(convolved(np.abs(wide(x)), np.abs(wide(w)), stride).max())
    whole = {"N": 2, "C": c, "O": o, "groups": 1, "flip": 0}
    pairs = {
        "iS": (h, h),
        "wS": (3, 3),
        "oS": (m, m),
        "str": (stride, stride),
        "pad": (1, 1),
        "kdil": (1, 1),
        "idil": (1, 1),
        "in_strides": (h * h * c, h * c, c, 1),
        "wt_strides": (9 * c, 3 * c, c, 1),
        "out_strides": (m * m * o, m * o, o, 1),
    }
    before = "MLXConvParams<2> p; " + "".join(f"p.{n} = {v};" for n, v in whole.items())
    before += "".join(f"p.{n}[{i}] = {v};" for n, values in pairs.items() for i, v in enumerate(values))
    rows = 2 * m * m
    jumps = f"{c}, {h * c - 2 * c}, {16 - 2 * h * c - 2 * c}"
    before += f"const mlx::steel::ImplicitGemmConv2DParams g = {{{rows}, {o}, {9 * c}, {steps}, {jumps}, "
    before += f"2, {-(-rows // 32)}, 0}};"
    return {"A": x, "B": w}, right, bound, before


CONVOLVED = {
    "params": "(const constant MLXConvParams<2>*)&p",
    "gemm_params": "(const constant mlx::steel::ImplicitGemmConv2DParams*)&g",
}


def convolution_small_filter() -> Case:
    given, right, bound, before = convolution(1, 32, 18)
    return Case(
        ("steel/conv/conv.h", "steel/conv/kernels/steel_conv.h"),
        "implicit_gemm_conv_2d",
        "float, 32, 8, 16, 4, 1, 0, true",
        given,
        F32,
        right,
        (64, 4, 4),
        (32, 1, 4),
        bound,
        out="C",
        before=before,
        texts=CONVOLVED,
    )


def convolution_general() -> Case:
    given, right, bound, before = convolution(2, 16, 1)
    before += """const mlx::steel::Conv2DGeneralJumpParams j = {1, 1, 1, 1, 4, 4, 16, 32};
    mlx::steel::Conv2DGeneralBaseInfo base = {0, 3};"""
    info = "(const constant mlx::steel::Conv2DGeneralBaseInfo*)&base"
    texts = {"jump_params": "(const constant mlx::steel::Conv2DGeneralJumpParams*)&j", "base_h": info, "base_w": info}
    return Case(
        ("steel/conv/conv.h", "steel/conv/kernels/steel_conv_general.h"),
        "implicit_gemm_conv_2d_general",
        "float, 32, 8, 16, 4, 1",
        given,
        F32,
        right,
        (64, 1, 4),
        (32, 1, 4),
        bound,
        out="C",
        before="using namespace mlx::steel; " + before,
        texts=CONVOLVED | texts,
        constants={"align_C": "true"},
    )


def vector_product_transposed() -> Case:
    m, v = normal(50, 64), normal(50, seed=1)
    given = {
        "mat": m,
        "in_vec": v,
        "in_vec_size": 50,
        "out_vec_size": 64,
        "marix_ld": 64,
        "alpha": 1.0,
        "beta": 0.0,
        "batch_ndim": 1,
        "batch_shape": [1],
        "vector_batch_stride": [0],
        "matrix_batch_stride": [0],
        "bias_batch_stride": [0],
        "bias_stride": 1,
    }
    return Case(
        ("gemv.h",),
        "gemv_t",
        "float, 1, 2, 8, 4, 4, 4, false, false",
        given,
        F32,
        wide(v) @ wide(m),
        (64, 2, 1),
        (32, 2, 1),
        product(wide(v), wide(m)),
        out="out_vec",
    )


def gemm_params(m: int, n: int, k: int, lda: int, ldb: int, batch_d: int = 0) -> str:
    numbers = (m, n, k, lda, ldb, n, -(-n // 32), -(-m // 32), 0, 0, batch_d, 0, k // 16, 1)
    return f"const mlx::steel::GEMMParams p = {{{', '.join(map(str, numbers))}}};"


MULTIPLIED = {"params": "(const constant mlx::steel::GEMMParams*)&p"}


def masked_product() -> Case:
    m, n, k = 64, 96, 64
    a, b = normal(m, k), normal(n, k, seed=1)
    rng = np.random.default_rng(3)
    out, left, right = (rng.random(s) < 0.6 for s in ((2, 3), (2, 2), (2, 3)))
    big = [np.kron(x, np.ones((32, 32))) for x in (out, left, right)]
    y = (wide(a) * big[1]) @ (wide(b).T * big[2]) * big[0]
    given = {
        "A": a,
        "B": b,
        "batch_shape": [1],
        "batch_strides": [0, 0, 0, 0, 0],
        "out_mask": mx.array(out),
        "lhs_mask": mx.array(left),
        "rhs_mask": mx.array(right),
        "mask_strides": [1, 3, 1, 2, 1, 3],
    }
    return Case(
        ("steel/gemm/gemm.h", "steel/gemm/kernels/steel_gemm_masked.h"),
        "block_masked_gemm",
        "float, bool, bool, 32, 32, 16, 2, 2, false, true, true, true",
        given,
        F32,
        y,
        (96, 4, 2),
        (32, 2, 2),
        product(wide(a), wide(b).T),
        out="D",
        before=gemm_params(m, n, k, k, k),
        texts=MULTIPLIED,
    )


def segmented_product() -> Case:
    m, n, k = 40, 33, 50
    a, b, parts = normal(m, k), normal(k, n, seed=1), [[0, 7], [7, 40], [16, 48], [3, 50]]
    y = np.stack([wide(a)[:, s:e] @ wide(b)[s:e] for s, e in parts])
    given = {"A": a, "B": b, "segments": mx.array(parts, dtype=mx.uint32)}
    flags = {"segments_contiguous": "true", "align_M": "false", "align_N": "false"}
    return Case(
        ("steel/gemm/gemm.h", "steel/gemm/kernels/steel_gemm_segmented.h"),
        "segmented_mm",
        "float, 32, 32, 16, 2, 2, false, false",
        given,
        F32,
        y,
        (64, 4, 8),
        (32, 2, 2),
        product(wide(a), wide(b)),
        out="C",
        before=gemm_params(m, n, k, k, n, m * n),
        texts=MULTIPLIED,
        constants=flags,
    )


def choice() -> Case:
    rng = np.random.default_rng(0)
    a, b, c = mx.array(rng.random((6, 4)) < 0.5), normal(4, 6, dtype=BF16), normal(1, 6, dtype=BF16, seed=1)
    given = {
        "a": a,
        "b": b,
        "c": mx.concatenate([c, c], 1),
        "shape": [4, 6],
        "a_strides": [1, 4],
        "b_strides": [6, 1],
        "c_strides": [0, 1],
        "ndim": 2,
    }
    return Case(
        ("ternary_ops.h", "ternary.h"),
        "ternary_g",
        "bfloat16_t, Select, 2, int",
        given,
        BF16,
        np.where(np.array(a).T, wide(b), wide(c)),
        (3, 4, 1),
        (3, 4, 1),
        out="d",
    )


def quotient_and_remainder() -> Case:
    rng = np.random.default_rng(0)
    a, b = (mx.array(rng.integers(lo, 50, 37), dtype=mx.int32) for lo in (-50, 1))
    q, remainder = np.divmod(np.array(a), np.array(b))
    return Case(
        ("binary_ops.h", "binary_two.h"),
        "binary_vv",
        "int, int, DivMod, 2",
        {"a": a, "b": b, "size": 37},
        mx.int32,
        q,
        (19, 1, 1),
        (19, 1, 1),
        out="c",
        also={"d": (mx.int32, remainder)},
    )


def unary_strided() -> Case:
    x = normal(5, 14, dtype=F16)
    ndim = mx.full((8,), 2, dtype=mx.int32)  # long enough for device memory
    given = {"in": x, "in_shape": [14, 5], "in_strides": [1, 14], "ndim": ndim}
    return Case(
        ("unary_ops.h", "unary.h"),
        "unary_g",
        "half, half, Exp, 2, int",
        given,
        F16,
        np.exp(wide(x)).T,
        (3, 14, 1),
        (3, 14, 1),
        2 * EPS[F16] * float(np.exp(wide(x)).max()),
        texts={"ndim": "ndim_[0]"},
    )


def searching() -> Case:
    a, v = mx.sort(normal(100)), normal(3, 40, seed=1)
    return Case(
        ("sort.h", "searchsorted.h"),
        "searchsorted",
        "float, false",
        {"a": a, "v": v, "n": mx.array(100, dtype=mx.uint32), "a_stride": 1},
        mx.uint32,
        np.searchsorted(np.array(a), np.array(v)),
        (40, 3, 1),
        (8, 3, 1),
    )


def sort_strided() -> Case:
    x = mx.array(np.random.default_rng(0).permutation(600).reshape(200, 3), dtype=mx.int16)
    given = {
        "inp": x,
        "size_sorted_axis": 200,
        "in_stride_sorted_axis": 3,
        "out_stride_sorted_axis": 3,
        "nc_dim": 1,
        "nc_shape": [3],
        "in_nc_strides": [1],
        "out_nc_strides": [1],
    }
    return Case(
        ("sort.h",),
        "block_sort_nc",
        "int16_t, int16_t, false, 64, 4",
        given,
        mx.int16,
        np.sort(np.array(x), 0),
        (64, 3, 1),
        (64, 1, 1),
    )


def updated_slice() -> Case:
    u, start = normal(3, 8, dtype=F16), 1.0
    right = np.full((6, 16), start)
    right[::2, 4:12] += wide(u)
    given = {
        "updates": u,
        "update_shape": [3, 8],
        "update_strides": [8, 1],
        "update_ndim": 2,
        "update_size": 24,
        "output_strides": [32, 1],
        "output_offset": 4,
    }
    return Case(
        (*ATOMIC, "binary_ops.h", "indexing/scatter.h"),
        "slice_update_op_impl",
        "half, int, Sum<half>, false, true, false, 4, 2",
        given,
        F16,
        right,
        (2, 3, 1),
        (2, 3, 1),
        2 * EPS[F16] * float(np.abs(right).max()),
        init=start,
    )


def front_rows() -> Case:
    x, at = normal(20, 9), np.random.default_rng(1).integers(-20, 20, 13)
    given = {"src": x, "indices": mx.array(at, dtype=mx.int32), "stride": 9, "size": 20}
    return Case(
        ("indexing/gather_front.h",),
        "gather_front",
        "float, int, int, 2",
        given,
        F32,
        wide(x)[at],
        (5, 13, 1),
        (5, 13, 1),
    )


def masked_assignment() -> Case:
    mask = np.random.default_rng(0).random(60) < 0.4
    x = normal(int(mask.sum()))
    right = np.full(60, -1.0)
    right[mask] = wide(x)
    offsets = mx.array(np.cumsum(mask) - mask, dtype=mx.uint32)
    given = {
        "mask": mx.array(mask),
        "scatter_offsets": offsets,
        "src": x,
        "src_shapes": [x.size],
        "src_strides": [1],
        "src_ndim": 1,
        "src_batch_size": x.size,
        "mask_batch_size": 60,
    }
    return Case(
        ("indexing/masked_scatter.h",),
        "masked_assign_impl",
        "float, true",
        given,
        F32,
        right,
        (60, 1, 1),
        (32, 1, 1),
        init=-1.0,
    )


def cross_entropy() -> Case:
    x, at = normal(9, 1000), np.arange(9) * 111 - 1
    right = np.log(np.exp(wide(x)).sum(1)) - wide(x)[np.arange(9), at]
    given = {"in": x, "targets": mx.array(at, dtype=mx.int32), "axis_size": 1000}
    return Case(
        ("cross_entropy.h",),
        "cross_entropy",
        "float, float, 4",
        given,
        F32,
        right,
        (9 * 256, 1, 1),
        (256, 1, 1),
        1000 * EPS[F32],
    )


def quantize() -> Case:
    """Words of eight numbers of four bits; which numbers, MLX's CPU says."""
    w = normal(8, 128)
    q, s, b = mx.quantize(w, group_size=64, bits=4)
    given = {"w": w}
    return Case(
        QUANTIZED,
        "affine_quantize",
        "float, 64, 4",
        given,
        mx.uint8,
        np.array(q).view(np.uint8),
        (32, 16, 1),
        (32, 1, 1),
        out="out",
        also={"scales": (F32, np.array(s)), "biases": (F32, np.array(b))},
    )


def dequantize() -> Case:
    q, s, b = mx.quantize(normal(8, 128, dtype=F16), group_size=32, bits=8)
    right = wide(mx.dequantize(q, s, b, group_size=32, bits=8))
    given = {"w": q.view(mx.uint8), "scales": s, "biases": b}
    return Case(
        QUANTIZED,
        "affine_dequantize",
        "half, 32, 8",
        given,
        F16,
        right,
        (128, 8, 1),
        (32, 8, 1),
        2 * EPS[F16] * float(np.abs(right).max()),
    )


def quantized_from_the_left() -> Case:
    n, k = 128, 64
    x, w = normal(2, k, dtype=F16), normal(k, n, dtype=F16, seed=1)
    q, s, b = mx.quantize(w, group_size=64, bits=4)
    values = wide(mx.dequantize(q, s, b, group_size=64, bits=4))
    given = {
        "w": q,
        "scales": s,
        "biases": b,
        "x": x,
        "in_vec_size": k,
        "out_vec_size": n,
        "x_batch_ndims": 0,
        "w_batch_ndims": 0,
    }
    size = float((np.abs(wide(x)) @ np.abs(values)).max())
    return Case(
        QUANTIZED,
        "affine_qvm",
        "half, 64, 4, false",
        given,
        F16,
        wide(x) @ values,
        (64, 4, 1),
        (32, 2, 1),
        (4 * k * EPS[F32] + 4 * EPS[F16]) * size,
        out="y",
    )


def eight_bit_floats() -> Case:
    """mxfp8, as MLX's CPU packs it."""
    w = normal(8, 64)
    q, s = mx.quantize(w, group_size=32, bits=8, mode="mxfp8")
    return Case(
        (*QUANTIZED[:2], "fp_quantized.h"),
        "fp_quantize",
        "float, 32, 8, false",
        {"w": w},
        mx.uint8,
        np.array(q).view(np.uint8),
        (64, 8, 1),
        (32, 1, 1),
        also={"scales": (mx.uint8, np.array(s))},
    )


def gated_delta() -> Case:
    b, t, h, d = 1, 5, 2, 32
    q, k, v = (normal(b, t, h, d, seed=i) / 4 for i in range(3))
    g, beta = mx.sigmoid(normal(b, t, h, seed=3)), mx.sigmoid(normal(b, t, h, seed=4))
    state = wide(normal(b, h, d, d, seed=5))
    given = {"q": q, "k": k, "v": v, "state_in": mx.array(state, dtype=F32), "g": g, "beta": beta, "T": t}
    y = np.zeros((b, t, h, d))
    for i in range(t):
        state = state * wide(g)[:, i, :, None, None]
        delta = (wide(v)[:, i] - np.einsum("bhvk,bhk->bhv", state, wide(k)[:, i])) * wide(beta)[:, i, :, None]
        state = state + delta[..., None] * wide(k)[:, i, :, None]
        y[:, i] = np.einsum("bhvk,bhk->bhv", state, wide(q)[:, i])
    return Case(
        ("gated_delta_update.h",),
        "gated_delta_seq",
        f"float, {d}, {d}, {h}, {h}, 4",
        given,
        F32,
        y,
        (32, d, b * h),
        (32, 4, 1),
        8 * t * d * EPS[F32] * float(np.abs(state).max()),
        out="y",
        also={"state_out": (F32, state)},
        texts={"T": "T_"},
        constants={"save_state": "false"},
    )


FAMILIES: tuple[Callable[[], Case], ...] = (
    fourier_of_64,
    fourier_of_60,
    hadamard,
    convolution_small_filter,
    convolution_general,
    vector_product_transposed,
    masked_product,
    segmented_product,
    choice,
    quotient_and_remainder,
    unary_strided,
    searching,
    sort_strided,
    updated_slice,
    front_rows,
    masked_assignment,
    cross_entropy,
    quantize,
    dequantize,
    quantized_from_the_left,
    eight_bit_floats,
    gated_delta,
)


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_a_family(folder: Path, family: Callable[[], Case]) -> None:
    assert run(family(), FAMILIES.index(family), folder).issues == []
