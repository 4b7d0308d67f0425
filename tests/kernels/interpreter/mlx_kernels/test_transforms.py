"""MLX's transforms and convolutions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from .launch import EPS, F16, F32, Case, normal, run, wide


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


FAMILIES: tuple[Callable[[], Case], ...] = (
    fourier_of_64,
    fourier_of_60,
    hadamard,
    convolution_small_filter,
    convolution_general,
)


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_a_family(folder: Path, family: Callable[[], Case]) -> None:
    assert run(family(), FAMILIES.index(family), folder).issues == []
