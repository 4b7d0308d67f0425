"""Every kernel case at the small model's shapes (or $BENCH_SIZE's), on every backend that can run here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bench.kernel_cases import Case, call, cases, cast
from kernels import Ops
from model.synthetic import PRESETS

PRESET = PRESETS[os.environ.get("BENCH_SIZE", "small")]
CASES = cases(PRESET.lm, PRESET.codec, group_size=PRESET.group_size)


@pytest.mark.parametrize("case", [c for c in CASES if c.quick], ids=lambda c: c.name)
def test_kernel(benchmark: Any, paired: Any, ops: Ops, case: Case) -> None:
    """Time of a graph of several calls, each with weights of its own; of one, if that is long."""
    calls = 8 if case.flops < 1e9 else 1

    def graph(ops: Ops) -> Callable[[], None]:
        rng = np.random.default_rng(0)
        copies = [cast(case.make(rng), ops) for _ in range(calls)]
        return lambda: mx.eval([call(ops, case.operation, copy) for copy in copies])

    paired(graph, 1.0)
    benchmark.extra_info.update(case=case.name, calls=calls)
    assert mx.isfinite(call(ops, case.operation, cast(case.make(np.random.default_rng(0)), ops))).all().item()
