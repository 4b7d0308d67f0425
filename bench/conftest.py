"""`pytest bench --benchmark-only`: pytest-benchmark over the same cases; `bench compare` reads its JSON.

pytest bench --benchmark-only --benchmark-json=a.json --benchmark-save-data
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import kernels
from bench.kernels.timer import Timer
from kernels import Ops

MIN_ROUNDS, MAX_ROUNDS = 2, 200


def columns() -> list[str]:
    """Return the names of the reference and of the fused backends that can run here."""
    missing = kernels.available()
    return ["reference", *(name for name in ("metal", "native") if missing[name] is None)]


@pytest.fixture(params=columns())
def ops(request: pytest.FixtureRequest) -> Ops:
    """Return each backend in turn."""
    return kernels.load(request.param)


@pytest.fixture
def paired(benchmark: Any, ops: Ops) -> Callable[..., Any]:
    """Return a function that benchmarks what `make(ops)` times, for some seconds.

    Before each round of a fused backend the reference has one; its times go to extra_info as `reference_seconds`, so
    that `bench compare` has pairs. A round has `loops` calls.
    """

    def run(make: Callable[[Ops], Timer], seconds: float) -> Any:
        fused = make(ops)
        base = make(kernels.load("reference")) if ops.name != "reference" else None
        timers = [timer for timer in (fused, base) if timer is not None]
        for timer in timers:
            timer.calibrate()
        rounds = int(seconds / sum(timer.calls * timer.sample() for timer in timers))
        times: list[float] = []
        result = benchmark.pedantic(
            fused.run,
            setup=lambda: times.append(base.sample()) if base else None,
            rounds=min(max(rounds, MIN_ROUNDS), MAX_ROUNDS),
            iterations=1,
        )
        benchmark.extra_info.update(column=ops.name, loops=fused.calls)
        if base is not None:
            benchmark.extra_info["reference_seconds"] = times
        return result

    return run
