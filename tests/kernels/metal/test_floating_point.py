"""Our kernels in every floating-point mode of the interpreter: right results, and what Metal's alone tells."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import Ops, interpreter, metal
from kernels.interpreter.compiler import FP

from ... import strategies
from ...strategies import Matmul, PrefixAttention
from ..operations import test_cross_attention, test_int4_matmul, test_prefix_attention

pytestmark = [pytest.mark.backend("interpreter"), pytest.mark.slow]

some = settings(max_examples=6)
Law = Callable[[Ops], None]


class Changed(metal.Engine):
    """Kernels in one mode, from sources in which a text is replaced."""

    def __init__(self, fp: str, change: tuple[str, str, str] | None = None) -> None:
        super().__init__(interpreter.metal_kernel, {"fp": fp})
        self.change = change

    def source(self, file: str) -> str:
        text = super().source(file)
        if self.change is None or file != self.change[0]:
            return text
        _, old, new = self.change
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {file}; adapt the mutant"
        return text.replace(old, new)


@functools.cache
def in_mode(fp: str, change: tuple[str, str, str] | None = None) -> metal.MetalOps:
    return metal.MetalOps("interpreter", Changed(fp, change))


@pytest.fixture(params=FP)
def in_every_mode(request: pytest.FixtureRequest) -> Ops:
    return in_mode(request.param)


@some
@given(case=strategies.matmuls())
def test_decode_products(in_every_mode: Ops, case: Matmul) -> None:
    test_int4_matmul.check(in_every_mode, case.arguments())


@some
@given(case=strategies.matmuls(rows=st.sampled_from(((9,), (33,), (3, 21))), max_k=384))
def test_prefill_products(in_every_mode: Ops, case: Matmul) -> None:
    test_int4_matmul.check(in_every_mode, case.arguments())


@some
@given(case=strategies.prefix_attentions(steps=st.sampled_from((1, 1, 5))))
def test_gated_prefix_attention(in_every_mode: Ops, case: PrefixAttention) -> None:
    test_prefix_attention.check(in_every_mode, case)


@pytest.mark.parametrize("sizes", [(3, 2, 48, 37, 4, 64), (2, 1, 64, 9, 8, 128), (5, 4, 100, 50, 4, 32)])
def test_text_attention(in_every_mode: Ops, sizes: tuple[int, ...]) -> None:
    names = ("rows", "text_rows", "dim", "keys", "bits", "group_size")
    arguments = test_cross_attention.arguments(4, steps=1, heads=2, groups=3, **dict(zip(names, sizes)))
    test_cross_attention.check(in_every_mode, arguments)


def test_awkward_rows_and_scores(in_every_mode: Ops) -> None:
    """The laws of the other files that arithmetic could break."""
    test_int4_matmul.test_large_mean_does_not_spoil_the_norm(in_every_mode, 1)
    test_int4_matmul.test_nearly_constant_rows(in_every_mode, 2)
    test_int4_matmul.test_gelu_is_the_erf_form(in_every_mode)
    test_prefix_attention.test_scores_far_apart(in_every_mode, 1)
    test_prefix_attention.test_scores_far_below_zero(in_every_mode, 1)


def norm_is_right_to_two_ulps(ops: Ops) -> None:
    """Rows of ±c have the mean 0 and the variance c² without rounding; the matrix hands the norm's result on."""
    k, rng = 32, np.random.default_rng(0)
    q = np.zeros((k, k), dtype=np.uint32)
    np.fill_diagonal(q, 1)
    words = (q.reshape(k, k // 8, 8) << (np.arange(8, dtype=np.uint32) * 4)).sum(-1).astype(np.uint32)
    ones, zeros = mx.ones((k, 1)), mx.zeros((k, 1))
    norm = (mx.ones((k,)), mx.zeros((k,)), 1e-5)
    for _ in range(8):
        c = rng.integers(257, 512, (8, 1)) / 256  # 9 bits
        x = (c * np.where(np.arange(k) % 2, 1, -1)).astype(np.float32)
        y = ops.int4_matmul(mx.array(x), mx.array(words), ones, zeros, group_size=32, bits=4, norm=norm)
        right = x / np.sqrt(c**2 + np.float64(np.float32(1e-5)))
        # One rounding each of the variance, of which the root halves the error, the root and the product.
        assert (np.abs(np.array(y) - right) / np.abs(right)).max() <= 1.5 * 2.0**-23


def erf_is_right_to_an_ulp(ops: Ops) -> None:
    """What gelu.h says of itself."""
    engine: Any = vars(ops)["engine"]
    x = np.concatenate([np.linspace(0.93, 3.0, 2048), np.linspace(-3.0, 0.93, 2048)]).astype(np.float32)
    kernel = interpreter.metal_kernel(
        "erf", ["a"], ["out"], "uint i = thread_position_in_grid.x; out[i] = erf_exact(a[i]);", engine.source("gelu.h")
    )
    (out,) = kernel(
        inputs=[mx.array(x)], grid=(4096, 1, 1), threadgroup=(256, 1, 1), output_shapes=[(4096,)],
        output_dtypes=[mx.float32], **engine._options,
    )  # fmt: skip
    right = np.array([math.erf(v) for v in x.astype(np.float64)])
    assert np.abs(np.array(out) - right).max() <= 2.0**-24


@pytest.mark.parametrize(
    ("law", "change"),
    [
        (norm_is_right_to_two_ulps, ("norm_rows.h", "precise::rsqrt(total", "rsqrt(total")),
        (erf_is_right_to_an_ulp, ("gelu.h", "precise::exp(r)", "exp(r)")),
    ],
)
def test_a_fast_function_in_place_of_a_precise_one_is_noticed_in_metals_mode_alone(
    law: Law, change: tuple[str, str, str]
) -> None:
    for fp in FP:
        law(in_mode(fp))
    for fp in ("off", "contract", "fast"):
        law(in_mode(fp, change))
    with pytest.raises(AssertionError):
        law(in_mode("metal", change))
