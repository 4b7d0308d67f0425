"""`pytest bench --benchmark-only`: pytest-benchmark over the same cases; `bench compare` reads its JSON.

    pytest bench --benchmark-only --benchmark-json=a.json --benchmark-save-data
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import kernels
from kernels import Ops


def columns() -> list[str]:
    """The reference and the fused backends that can run here."""
    out = ["reference"]
    for name in ("metal", "native"):
        try:
            kernels.load(name)
        except (kernels.BackendUnavailable, ImportError):
            continue
        out.append(name)
    return out


@pytest.fixture(params=columns())
def ops(request: pytest.FixtureRequest) -> Ops:
    """Each backend in turn."""
    return kernels.load(request.param)


@pytest.fixture
def paired(benchmark: Any, ops: Ops) -> Callable[..., Any]:
    """Benchmark what `make(ops)` returns, for some seconds. Before each round of a fused backend the reference runs
    once; its times go to extra_info as `reference_seconds`, so that `bench compare` has pairs. A round repeats what is
    shorter than `sample` seconds, `loops` times: who runs where decides over single short graphs."""

    def run(make: Callable[[Ops], Callable[[], Any]], seconds: float, sample: float = 0.0) -> Any:
        fused = make(ops)
        base = make(kernels.load("reference")) if ops.name != "reference" else None
        times: list[float] = []

        def before() -> None:
            if base is not None:
                start = time.perf_counter()
                base()
                times.append(time.perf_counter() - start)

        took, each = 0.0, 0.0
        for _ in range(2):  # the first one warms up
            start = time.perf_counter()
            before()
            middle = time.perf_counter()
            fused()
            each = time.perf_counter() - middle
            took = time.perf_counter() - start
        loops = max(1, round(sample / each))
        rounds = min(max(int(seconds / (took + (loops - 1) * each)), 2), 200)
        times.clear()

        def repeated() -> Any:
            for _ in range(loops - 1):
                fused()
            return fused()

        result = benchmark.pedantic(repeated, setup=before, rounds=rounds, iterations=1)
        benchmark.extra_info.update(column=ops.name, loops=loops)
        if base is not None:
            benchmark.extra_info["reference_seconds"] = times
        return result

    return run
