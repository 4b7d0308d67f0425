"""Every Metal kernel in the interpreter's check mode, on ragged shapes: no fault and a right result, whatever the
order in which threads run and however the compiler treats floating point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels import Ops, metal
from kernels.interpreter.compiler import FP
from kernels.metal.engine import Bound

from ...strategies import Matmul, PrefixAttention
from ..operations import test_cross_attention, test_int4_matmul, test_prefix_attention

pytestmark = [pytest.mark.backend("interpreter"), pytest.mark.slow]

F32, F16, BF16 = mx.float32, mx.float16, mx.bfloat16
MATMUL = Matmul(1, (2,), 35, 3, 32, 4, F32, F16, "contiguous", True, True, True, True)
ATTENTION = PrefixAttention(
    seed=2,
    shared=1,
    pairs=2,
    heads=2,
    steps=1,
    slots=75,
    length=71,
    frames=69,
    dim=64,
    gate=0.6,
    dtype=F32,
    layout="contiguous",
)
PROMPT = dataclasses.replace(ATTENTION, steps=5, pairs=1)

Case = Callable[[Ops], Any]


def matmul(**change: Any) -> Case:
    return lambda ops: test_int4_matmul.check(ops, dataclasses.replace(MATMUL, **change).arguments())


def attention(case: PrefixAttention, **change: Any) -> Case:
    return lambda ops: test_prefix_attention.check(ops, dataclasses.replace(case, **change))


def cross(**change: Any) -> Case:
    sizes = {"rows": 3, "text_rows": 2, "steps": 1, "heads": 2, "dim": 48, "keys": 37, "groups": 3, **change}
    return lambda ops: test_cross_attention.check(ops, test_cross_attention.arguments(4, **sizes))


CASES: dict[str, Case] = {
    "decode": matmul(),
    "decode, fours": matmul(n=44, rows=(4,), dtype=F16),
    "decode plain, 8 bits": matmul(
        rows=(5,), bits=8, group_size=64, groups=5, n=9, gelu=False, norm=False, bias=False, residual=False, dtype=F16
    ),
    "decode, many groups": matmul(rows=(8,), group_size=128, groups=9, n=1, dtype=BF16, scale_dtype=BF16),
    "prefill": matmul(rows=(35,), norm=False, n=67),
    "prefill, 8 bits": matmul(
        rows=(70,), bits=8, group_size=64, groups=2, n=3, norm=False, dtype=F16, scale_dtype=F16, residual=False
    ),
    "attention": attention(ATTENTION),
    "attention, 80": attention(ATTENTION, dim=80, pairs=3, dtype=BF16, layout="strided"),
    "attention, short": attention(ATTENTION, dim=128, length=1, slots=2, frames=1, pairs=1, dtype=F16, combined=True),
    "attention, split": attention(ATTENTION, dim=16, length=1500, slots=1501, frames=613, pairs=2, heads=1),
    "prompt": attention(PROMPT),
    "prompt, 96": attention(PROMPT, dim=96, steps=6, layout="transposed", array_length=True, gate=0.0),
    "text": cross(),
    "text, one key": cross(rows=2, text_rows=1, dim=64, keys=1, bits=8, group_size=64, dtype=F16, norm=False),
}


@pytest.mark.parametrize("fp", FP)
@pytest.mark.parametrize("name", CASES)
def test_no_fault_in_any_order(name: str, fp: str) -> None:
    results = []
    for seed in (0, 1, 12345):
        launched: list[mx.array] = []

        class Recorded(metal.Engine):
            def bind(self, launch: metal.Launch, _launched: list[mx.array] = launched) -> Bound | None:
                bound = super().bind(launch)
                assert bound is not None

                def recorded(inputs: list[mx.array]) -> list[mx.array]:
                    _launched.extend(results := bound(inputs=inputs))
                    return results

                return recorded

        from kernels import interpreter

        engine = Recorded(interpreter.metal_kernel, {"check": True, "seed": seed, "fp": fp})
        CASES[name](metal.MetalOps("interpreter", engine))
        assert launched, "no Metal kernel ran"
        results.append([np.array(a.astype(mx.float32)) for a in launched])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_array_equal(a, b)
