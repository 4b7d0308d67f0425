"""Every kernel case at the demo model's shapes (or $BENCH_SIZE's), on every backend that can run here."""

from __future__ import annotations

import itertools
import os
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bench.kernel_cases import Case, call, cases, cast
from kernels import Ops
from model.synthetic import PRESETS

PRESET = PRESETS[os.environ.get("BENCH_SIZE", "demo")]
CASES = cases(PRESET.lm, PRESET.codec, group_size=PRESET.group_size)


@pytest.mark.parametrize("case", [c for c in CASES if c.quick], ids=lambda c: c.name)
def test_kernel(benchmark: Any, case: Case, ops: Ops) -> None:
    """Time of one call within a graph of several, each with weights of its own."""
    rng = np.random.default_rng(0)
    copies = [cast(case.make(rng), ops) for _ in range(8)]
    turn = itertools.cycle(copies)
    benchmark.extra_info.update(case=case.name, column=ops.name, calls=len(copies))
    mx.eval(call(ops, case.operation, copies[0]))
    benchmark(lambda: mx.eval([call(ops, case.operation, next(turn)) for _ in copies]))
    assert mx.isfinite(call(ops, case.operation, copies[0])).all().item()
