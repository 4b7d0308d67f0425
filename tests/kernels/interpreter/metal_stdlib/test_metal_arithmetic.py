"""fp="metal": fast functions are as far off as Metal's specification lets them be, precise ones are exact, denormals
are zeros. The bounds are those of the Metal Shading Language Specification 4.1, section 8.4, table 8.2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest

from kernels.interpreter.compiler import FP
from kernels.interpreter.kernel import MetalKernel

pytestmark = pytest.mark.backend("interpreter")

Float64 = npt.NDArray[np.float64]
N = 1024


def ulp(y: Float64) -> Float64:
    return np.exp2(np.floor(np.log2(np.maximum(np.abs(y), 2.0**-126))) - 23)


def _near_one(x: Float64, y: Float64, absolute: float, ulps: float) -> Float64:
    return np.where((x >= 0.5) & (x <= 2), absolute, ulps * ulp(y))


def _trigonometric(x: Float64, y: Float64) -> Float64:
    return np.full_like(y, 2.0**-13)


def _exponential(x: Float64, y: Float64) -> Float64:
    return (3 + np.floor(np.abs(2 * x))) * ulp(y)


Bound = Callable[[Float64, Float64], Float64]
# name: where it is tried, the right value, and the bound of the fast one
STATED: dict[str, tuple[tuple[float, float], Callable[[Float64], Float64], Bound]] = {
    "exp": ((-80, 80), np.exp, _exponential),
    "exp2": ((-120, 120), np.exp2, _exponential),
    "log": ((1e-3, 20), np.log, lambda x, y: _near_one(x, y, 2.0**-21, 3)),
    "log2": ((1e-3, 20), np.log2, lambda x, y: _near_one(x, y, 2.0**-22, 2)),
    "rsqrt": ((1e-3, 9e3), lambda x: 1 / np.sqrt(x), lambda x, y: 2 * ulp(y)),
    "sin": ((-3.14, 3.14), np.sin, _trigonometric),
    "cos": ((-3.14, 3.14), np.cos, _trigonometric),
    "sinpi": ((-1, 1), lambda x: np.sin(x * np.pi), _trigonometric),
    "cospi": ((-1, 1), lambda x: np.cos(x * np.pi), _trigonometric),
    "acos": ((-0.99, 0.99), np.arccos, lambda x, y: 5 * ulp(y)),
    "asin": ((-0.99, 0.99), np.arcsin, lambda x, y: 5 * ulp(y)),
    "atan": ((-30, 30), np.arctan, lambda x, y: 5 * ulp(y)),
}
IMPLEMENTED = {
    "sqrt(x)": "x * rsqrt(x)",
    "exp10(x)": "exp2(x * 3.32192809f)",
    "log10(x)": "log2(x) * 0.301029996f",
    "pow(x, 1.7f)": "exp2(1.7f * log2(x))",
    "powr(x, -0.3f)": "exp2(-0.3f * log2(x))",
    "sinh(x)": "0.5f * (exp(x) - exp(-x))",
    "cosh(x)": "0.5f * (exp(x) + exp(-x))",
    "tan(x)": "sin(x) * (1.0f / cos(x))",
    "tanh(x)": "(exp(2.0f * x) - 1.0f) / (exp(2.0f * x) + 1.0f)",
    "atan2(x, 3.0f)": "atan(x / 3.0f)",
}


def outputs(using: Any, body: str, count: int, fp: str = "metal", **inputs: npt.ArrayLike) -> list[npt.NDArray[Any]]:
    """Run a body of N threads; `out` holds `count` rows of N."""
    arrays = {name: mx.array(value) for name, value in inputs.items()}
    source = f"const uint i = thread_position_in_grid.x, N = {N};\n{body}"
    kernel = MetalKernel("arithmetic", list(arrays), ["out"], source, using=using)
    (out,) = kernel(
        inputs=list(arrays.values()),
        grid=(N, 1, 1),
        threadgroup=(256, 1, 1),
        output_shapes=[(count, N)],
        output_dtypes=[mx.float32],
        fp=fp,
    )
    return list(np.array(out))


def body(expressions: list[str]) -> str:
    return "\n".join(f"out[{row} * N + i] = {e};" for row, e in enumerate(expressions))


def test_functions_are_off_by_what_is_stated_and_precise_ones_are_not(using: Any) -> None:
    rng = np.random.default_rng(1)
    qualities = ("metal", "metal::fast", "metal::precise")
    x = np.stack([rng.uniform(*domain, N) for domain, _, _ in STATED.values()]).astype(np.float32)
    calls = [f"{q}::{name}(x[{n} * N + i])" for n, name in enumerate(STATED) for q in qualities]
    got = iter(outputs(using, body(calls), len(calls), x=x))
    for (name, (_, right, bound)), row in zip(STATED.items(), x.astype(np.float64)):
        want = right(row)
        bare, fast, precise = itertools.islice(got, 3)
        np.testing.assert_array_equal(bare, fast, err_msg=name)
        error = np.abs(fast - want) / bound(row, want)
        assert error.max() <= 1.0 + 1e-9, f"{name}: {error.max()} of what is stated"
        assert error.max() > 0.7, f"{name}: only {error.max()} of what is stated"
        signs = np.sign(fast - want)[error > 0.5]
        assert 0.3 < (signs > 0).mean() < 0.7, f"{name}: off to one side"
        # The argument of sinpi's sine is a product, rounded.
        assert (np.abs(precise - want) / ulp(want)).max() <= (2.5 if name.endswith("pi") else 1.0), name


def test_division_is_exact_as_an_operator_and_off_as_a_function(using: Any) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, N)).astype(np.float32)
    calls = ["x[i] / y[i]", "divide(x[i], y[i])", "metal::precise::divide(x[i], y[i])"]
    operator, fast, precise = outputs(using, body(calls), 3, x=x, y=y)
    want = x.astype(np.float64) / y
    np.testing.assert_array_equal(operator, x / y)
    np.testing.assert_array_equal(precise, x / y)
    error = np.abs(fast - want) / ulp(want)
    assert 1.7 < error.max() <= 2.5


def test_what_is_stated_as_implemented_so_is(using: Any) -> None:
    x = np.random.default_rng(3).uniform(0.1, 3, N).astype(np.float32)
    calls = [c.replace("x", "X") for pair in IMPLEMENTED.items() for c in pair]
    calls = [c.replace("eXp", "exp") for c in calls]
    got = outputs(using, "const float X = x[i];\n" + body(calls), len(calls), x=x)
    for call, (ours, stated) in zip(IMPLEMENTED, zip(got[::2], got[1::2])):
        np.testing.assert_array_equal(ours, stated, err_msg=call)
        assert np.isfinite(ours).all()


def test_fast_tanh_of_large_numbers_is_none(using: Any) -> None:
    x = np.linspace(20, 60, N).astype(np.float32)
    fast, precise = outputs(using, body(["tanh(x[i])", "metal::precise::tanh(x[i])"]), 2, x=x)
    assert np.isnan(fast[x > 44.4]).all() and not np.isnan(fast[x < 44.3]).any()  # exp(2 · 44.36) is the largest float
    np.testing.assert_array_equal(precise, 1.0)


def test_special_values_stay(using: Any) -> None:
    x = np.zeros(N, np.float32)
    x[:5] = [0.0, np.inf, -np.inf, np.nan, -1.0]
    calls = ["exp(x[i])", "sqrt(x[i])", "rsqrt(x[i])", "log(x[i])"]
    exp, sqrt, rsqrt, log = (row[:5] for row in outputs(using, body(calls), 4, x=x))
    assert abs(exp[0] - 1) <= 3 * 2.0**-23
    np.testing.assert_array_equal(exp[1:4], np.array([np.inf, 0, np.nan], np.float32))
    np.testing.assert_array_equal(sqrt, np.array([0, np.inf, np.nan, np.nan, np.nan], np.float32))
    np.testing.assert_array_equal(rsqrt[:2], np.array([np.inf, 0], np.float32))
    np.testing.assert_array_equal(log[:2], np.array([-np.inf, np.inf], np.float32))


def test_denormals_are_zeros_while_the_kernel_runs(using: Any) -> None:
    """Also as operands and in comparisons. Halves have theirs: as floats they are normal numbers."""
    tiny = np.full(N, 1e-40, np.float32)
    small, low = np.full(N, 1e-30, np.float32), np.full(N, -100, np.float32)
    expressions = ["small[i] * 1e-10f", "tiny[i] + tiny[i]", "tiny[i] > 0 ? 1 : 0", "metal::precise::exp(low[i])"]
    expressions += ["float(half(h[i]) * half(1))"]
    for fp, kept in ((fp, fp != "metal") for fp in ("off", "contract", "metal")):
        h = np.full(N, 6e-8, np.float16)
        rows = outputs(using, body(expressions), 5, fp, tiny=tiny, small=small, low=low, h=h)
        assert [bool((row != 0).all()) for row in rows] == [kept, kept, kept, kept, True], fp
    assert (tiny + tiny != 0).all() and float(np.float32(1e-30) * np.float32(1e-10)) != 0  # here they are numbers again


def test_the_kernels_own_math_mode_counts(using: Any) -> None:
    a = np.full(32, 1.0, np.float32)
    results = {}
    for mode in ("safe", "relaxed", "fast"):
        kernel = MetalKernel(
            "mode", ["a"], ["out"], "uint i = thread_position_in_grid.x; out[i] = (a[i] + 1e8f) - 1e8f;",
            using=using, compile_options={"math_mode": mode},
        )  # fmt: skip
        call = {"grid": (32, 1, 1), "threadgroup": (32, 1, 1), "output_shapes": [(32,)], "output_dtypes": [mx.float32]}
        results[mode] = float(kernel(inputs=[mx.array(a)], fp="metal", **call)[0][0])
        assert float(kernel(inputs=[mx.array(a)], fp="off", **call)[0][0]) == 0
    assert results == {"safe": 0, "relaxed": 1, "fast": 1}


def test_one_argument_has_one_result_in_any_order_of_threads(using: Any) -> None:
    x = np.random.default_rng(4).normal(size=N).astype(np.float32)
    kernel = MetalKernel(
        "order", ["x"], ["out"], "uint i = thread_position_in_grid.x; out[i] = exp(x[i % 64]) + sin(x[i % 64]);",
        using=using,
    )  # fmt: skip
    rows = []
    for seed in (0, 1, 5):
        (out,) = kernel(
            inputs=[mx.array(x)], grid=(N, 1, 1), threadgroup=(64, 1, 1), output_shapes=[(N,)],
            output_dtypes=[mx.float32], fp="metal", check=True, seed=seed,
        )  # fmt: skip
        rows.append(np.array(out).reshape(-1, 64))
    assert (np.concatenate(rows) == rows[0][0]).all()


def test_half_functions_are_right_to_a_half_in_every_mode(using: Any) -> None:
    x = np.random.default_rng(5).uniform(0.01, 5, N).astype(np.float16)
    for fp in FP:
        exp, rsqrt = outputs(using, body(["float(exp(x[i]))", "float(rsqrt(x[i]))"]), 2, fp, x=x)
        for got, want in ((exp, np.exp(x.astype(np.float64))), (rsqrt, 1 / np.sqrt(x.astype(np.float64)))):
            assert (np.abs(got - want) / (ulp(want) * 2.0**13)).max() <= 1, fp
