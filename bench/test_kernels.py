"""Every kernel case at the small model's shapes (or $BENCH_SIZE's), on every backend that can run here."""

from __future__ import annotations

import os
from typing import Any

import mlx.core as mx
import pytest

from bench.kernels.shapes import cases
from bench.kernels.timer import KernelTimer
from kernels import Ops
from kernels.cases import Case, Draw, call, cast
from model.synthetic import PRESETS

PRESET = PRESETS[os.environ.get("BENCH_SIZE", "small")]
PASSES = 3
"""Times that each short case is measured, each with new threads and buffers, which may be placed well or badly."""
LONG_FLOPS = 1e8
"""Floating-point operations from which one pass over one copy of the weights is enough."""
COPIES = 8
CASES = cases(PRESET.lm, PRESET.codec, group_size=PRESET.group_size)


@pytest.mark.parametrize(
    ("case", "again"),
    [(c, n) for n in range(PASSES) for c in CASES if c.quick and (n == 0 or c.flops < LONG_FLOPS)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_kernel(benchmark: Any, paired: Any, ops: Ops, case: Case, again: int) -> None:
    """Time a graph of several calls, each with the next copy of the weights."""
    draw = Draw()
    masters = [case.make(draw) for _ in range(COPIES if case.flops < LONG_FLOPS else 1)]
    paired(lambda ops: KernelTimer(case.operation, ops, masters), 0.8 if case.flops < LONG_FLOPS else 5.0)
    benchmark.extra_info.update(case=case.name)
    assert mx.isfinite(call(ops, case.operation, cast(masters[0], ops))).all().item()
