"""`bench compare` on what was really measured here: the pytest suite, and a kernel made slower."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import reference
from bench import result_files
from bench.compare import command as compare
from bench.kernels import timer
from bench.machine import hardware
from bench.machine.bandwidth import Bandwidth
from bench.machine.environment import Environment
from bench.results import STOCK, KernelsResult
from kernels.cases import matmul

from .test_compare import ENVIRONMENT, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.serial]


@pytest.mark.backend("native")
def test_reads_what_the_pytest_suite_writes(tmp_path: Path) -> None:
    """The suite itself, on one small case: each fused round has its pair."""
    file = tmp_path / "a.json"
    # Under `pytest -n` the outer worker's variables would have pytest-benchmark believe that this run is one of many.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "bench/test_kernels.py", "-q", "-p", "no:cacheprovider", "-k", "awkward",
         "--benchmark-only", "--benchmark-save-data", f"--benchmark-json={file}"],
        cwd=ROOT, env=environment | {"BENCH_SIZE": "tiny"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    benchmarks = json.loads(file.read_text())["benchmarks"]
    fused = [b for b in benchmarks if b["extra_info"]["column"] != "reference"]
    for each in fused:
        data, pairs = each["stats"]["data"], each["extra_info"]["reference_seconds"]
        assert len(data) == len(pairs) >= 2 and all(seconds > 0 for seconds in pairs)
    columns = {b["extra_info"]["column"] for b in fused}
    assert "native" in columns
    found = compare.compare(result_files.load(str(file)), result_files.load(str(file)))
    assert len(found) == len(columns)
    for verdict in found:
        rounds = sum(len(b["stats"]["data"]) for b in fused if verdict.name.endswith(b["extra_info"]["column"]))
        assert verdict.relative and verdict.change.estimate == 1 and verdict.samples == (rounds, rounds)


class Slow:
    """The reference whose packed product takes longer by a factor: it really waits."""

    name = "slow"

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __getattr__(self, name: Any) -> Any:
        return getattr(reference, name)

    def int4_matmul(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        y = reference.int4_matmul(*args, **kwargs)
        mx.eval(y)
        until = start + (time.perf_counter() - start) * self.factor
        while time.perf_counter() < until:
            pass
        return y


def test_a_kernel_that_really_is_slower() -> None:
    """Measured, not made up. On a machine that is too busy to tell, "too noisy" is the right answer, so the slower one
    may be tried again; the same code is never a regression."""
    case = matmul("x", 2, 256, 256)

    def run(factor: float) -> KernelsResult:
        columns = {STOCK: Slow(1.0), "fused": Slow(factor)}
        record = timer.time_case(case, columns, repeat=40, limit=1.5)
        record.busy = hardware.Busy(1.0, None, 1.0)  # both sides use one thread, so neighbors slow them alike
        return KernelsResult(
            environment=Environment(**ENVIRONMENT), cases=[record], bandwidth=Bandwidth(1 << 28, [0.01])
        )

    def outcomes(a: KernelsResult, b: KernelsResult) -> list[str]:
        return [v.outcome for v in compare.compare(a, b)]

    # Each try has a baseline of its own: one that a neighbor disturbed would make all of them too noisy.
    same = (outcomes(run(1.0), run(1.0)) for _ in range(6))
    assert any(found in (["no difference"], ["too noisy to tell"]) for found in same)
    tries = (outcomes(run(1.0), run(1.5)) for _ in range(20))
    assert any(found == ["regression"] for found in tries)
