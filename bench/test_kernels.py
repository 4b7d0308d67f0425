"""Every kernel case at the small model's shapes (or $BENCH_SIZE's), on every backend that can run here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bench.kernels.cases import Case, call, cases, cast
from bench.kernels.command import SAMPLE_SECONDS
from kernels import Ops
from model.synthetic import PRESETS

PRESET = PRESETS[os.environ.get("BENCH_SIZE", "small")]
PASSES = 3
"""Times that each short case is measured, anew each time: a thread or a buffer may lie well or badly for a while."""
LONG = 1e8
"""Floating-point operations from which one call at a time, in one pass, is enough."""
CASES = cases(PRESET.lm, PRESET.codec, group_size=PRESET.group_size)


@pytest.mark.parametrize(
    ("case", "again"), [(c, n) for n in range(PASSES) for c in CASES if c.quick and (n == 0 or c.flops < LONG)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_kernel(benchmark: Any, paired: Any, ops: Ops, case: Case, again: int) -> None:
    """Time of a graph of several calls, each with weights of its own; of one, if that is long."""
    calls, seconds = (8, 0.8) if case.flops < LONG else (1, 5.0)

    def graph(ops: Ops) -> Callable[[], None]:
        rng = np.random.default_rng(0)
        copies = [cast(case.make(rng), ops) for _ in range(calls)]
        return lambda: mx.eval([call(ops, case.operation, copy) for copy in copies])

    paired(graph, seconds, SAMPLE_SECONDS)
    benchmark.extra_info.update(case=case.name, calls=calls)
    assert mx.isfinite(call(ops, case.operation, cast(case.make(np.random.default_rng(0)), ops))).all().item()
