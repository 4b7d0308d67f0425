"""A decode product's norm inside the kernel, folded into its epilogue, or apart: one result, also of awkward rows."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import mlx.core as mx
import numpy as np
import pytest

from kernels import interpreter, metal
from kernels.metal.choices import NORMS
from kernels.metal.folding import fold
from kernels.metal.prepared import Prepared
from reference import oracle
from reference.contract import Norm, Packed

from ...strategies import Matmul, Random
from ..operations.test_int4_matmul import check

pytestmark = pytest.mark.backend("interpreter")

GROUP, K, N = 64, 512, 24
CASE = Matmul(5, (2,), N, K // GROUP, GROUP, 4, mx.float32, mx.float32, "contiguous", True, True, True, True)
NormChoice = Literal["inside", "folded", "apart"]


class Changed(metal.Engine):
    """Kernels whose header has a text replaced."""

    change: tuple[str, str] | None = None

    def source(self, file: str) -> str:
        text = super().source(file)
        if self.change is None or file != "norm_rows.h":
            return text
        assert text.count(self.change[0]) == 1, f"{self.change[0]!r}: adapt the mutant to the new source"
        return text.replace(*self.change)


@functools.cache
def ops(norm: NormChoice, check: bool = False, change: tuple[str, str] | None = None) -> metal.MetalOps:
    engine = Changed(interpreter.metal_kernel, {"check": check}, choices=metal.Choices(norm=norm))
    engine.change = change
    return metal.MetalOps("interpreter", engine)


class Packing:
    """Operations that pack each matrix before they compute with it, as a model does: norms are folded into those."""

    name = "interpreter"

    def __init__(self, own: metal.MetalOps) -> None:
        self._own = own

    def int4_matmul(self, **arguments: Any) -> mx.array:
        parts = [arguments.pop(name) for name in ("w", "scales", "biases")]
        packed = Packed(*parts, group_size=arguments.pop("group_size"), bits=arguments.pop("bits"))
        return self._own.int4_matmul(w=self._own.pack(packed), **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("rows", (1, 2, 5))
@pytest.mark.parametrize("dtype", (mx.float16, mx.bfloat16, mx.float32))
@pytest.mark.parametrize("norm", NORMS)
def test_each_norm_is_right_and_has_no_fault(norm: NormChoice, dtype: mx.Dtype, rows: int) -> None:
    case = dataclasses.replace(CASE, rows=(rows,), dtype=dtype, scale_dtype=dtype)
    check(Packing(ops(norm, check=True)), case.arguments())


def error(norm: NormChoice, row: np.ndarray, **options: Any) -> float:
    """The largest distance from the float64 oracle over the largest result, of a row and one twice it."""
    arguments = dataclasses.replace(CASE, bias=False, gelu=False, residual=False).arguments()
    arguments["x"] = mx.array(np.stack([row, 2 * row]).astype(np.float32))
    y, right = np.array(Packing(ops(norm, **options)).int4_matmul(**arguments)), oracle.int4_matmul(**arguments)
    return float(np.abs(y - right).max() / np.abs(right).max())


def rows() -> dict[str, np.ndarray]:
    plain = np.random.default_rng(3).normal(0.3, 1.5, K)
    outliers = {f"x[0] = {value}": np.r_[value, plain[1:]] for value in (500, 5000)}
    last = {"x[-1] = 5000": np.r_[plain[:-1], 5000]}
    constant = 40 + 0.01 * np.random.default_rng(4).normal(size=K)  # exact neither in float16 nor in float32
    return {"plain": plain, **outliers, **last, "near constant": constant, "far from zero": plain + 300}


ROWS = rows()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("norm", NORMS)
def test_outliers_and_nearly_constant_rows_keep_their_digits(norm: NormChoice, row: str) -> None:
    """1e-5, of which a constant row's mean takes part: in float32, its values have a resolution of 4e-6 / 0.01."""
    most = 1e-5 if row not in ("near constant", "far from zero") else 1e-3
    assert error(norm, ROWS[row]) < most


@pytest.mark.parametrize(
    ("row", "change"),
    [
        ("x[0] = 5000", ("metal::simd_sum(float(x[m * K + int(lane)])) / 32.0f", "float(x[m * K])")),
        ("far from zero", ("metal::simd_sum(float(x[m * K + int(lane)])) / 32.0f", "0.0f")),
    ],
)
def test_another_shift_is_noticed(row: str, change: tuple[str, str]) -> None:
    """By the first value, digits are lost to an outlier; without a shift, to a mean."""
    assert error("folded", ROWS[row], change=change) > 4 * error("folded", ROWS[row])


def test_constants_are_of_unrounded_weights() -> None:
    r = Random(8)
    arguments = r.packed(N, K, group_size=GROUP, bits=4, dtype=mx.float16)
    norm = Norm(r.normal(K, mean=1.0, dtype=mx.float16), r.normal(K, dtype=mx.float16))
    weight = Packed(arguments["w"], arguments["scales"], arguments["biases"], GROUP, 4)
    c = np.array(fold(weight, norm))
    words = np.array(weight.w)[:, :, None] >> (4 * np.arange(8, dtype=np.uint32)) & 15
    group = (words.reshape(N, -1, GROUP) * np.array(weight.scales, np.float64)[..., None]) + np.array(
        weight.biases, np.float64
    )[..., None]
    for made, part in zip(c, norm[:2]):
        right = group.reshape(N, K) @ np.array(part, np.float64)
        assert np.abs(made - right).max() < 2e-6 * np.abs(group.reshape(N, K)).sum(axis=1).max()


def test_constants_are_made_once_for_each_norm() -> None:
    r = Random(9)
    a = r.packed(N, K, group_size=GROUP, bits=4, dtype=mx.float16)
    weight = ops("folded").pack(Packed(a["w"], a["scales"], a["biases"], GROUP, 4))
    norms = [Norm(r.normal(K), r.normal(K)) for _ in range(2)]
    assert isinstance(weight, Prepared)
    first = weight.folded(norms[0])
    assert weight.folded(norms[0]) is first and not mx.array_equal(weight.folded(norms[1]), first)
