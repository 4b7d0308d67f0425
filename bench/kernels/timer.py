"""The one kernel timer, of `bench kernels` and of the pytest suite: samples long enough to time, columns in turn."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from kernels.cases import Arguments, Case, Draw, call, cast, error
from model.system.machine import cache_bytes
from reference.contract import Ops, Packed

from .. import stats
from ..machine import hardware
from ..machine.bandwidth import StreamedBuffer
from ..results import SGEMM, STOCK, KernelCase, KernelColumn

GEMM_ROWS = 64
"""Rows from which a product is limited by arithmetic, so that sgemm is its yardstick."""
MAX_FRESH_BYTES = 256 << 20
MAX_COPIES = 64
SAMPLE_SECONDS = 0.02
MAX_SAMPLES = 200
"""Samples of a case in a pass, at most, on a noisy machine."""


class Timer:
    """A function that runs some number of calls, and how many of them make a sample."""

    def __init__(self, run: Callable[[int], Any], max_calls: int = 1) -> None:
        self._run, self._max_calls = run, max_calls
        self.calls, self.estimate = 1, 0.0

    def run(self) -> Any:
        """Run the calls of one sample."""
        return self._run(self.calls)

    def sample(self) -> float:
        """Return the mean seconds of one call in one sample."""
        start = time.perf_counter()
        self.run()
        return (time.perf_counter() - start) / self.calls

    def calibrate(self) -> None:
        """Choose the number of calls so that a sample lasts SAMPLE_SECONDS or has `max_calls`.

        Then take a sample that does not count, since the first one takes up to twice as long.
        """
        self.estimate = self.sample()
        self.calls = max(1, min(int(SAMPLE_SECONDS / max(self.estimate, 1e-7)), self._max_calls))
        self.sample()


class KernelTimer(Timer):
    """One column of a case.

    A sample evaluates one graph of independent calls, as a model does, each of which reads the next copy of the
    weights.
    """

    def __init__(self, operation: str, ops: Ops, masters: list[Arguments]) -> None:
        self.ops, self.arguments = ops, [cast(m, ops) for m in masters]
        mx.eval([v.arrays() if isinstance(v, Packed) else v for each in self.arguments for v in each.values()])
        turn = itertools.cycle(self.arguments)
        super().__init__(
            lambda calls: mx.eval([call(ops, operation, next(turn)) for _ in range(calls)]), max(4 * len(masters), 16)
        )
        self.operation = operation

    def result(self) -> mx.array:
        """Return the result of the first copy."""
        out = call(self.ops, self.operation, self.arguments[0])
        mx.eval(out)
        return out


def time_case(
    case: Case, columns: dict[str, Ops], *, repeat: int, limit: float, stream: StreamedBuffer | None = None
) -> KernelCase:
    """Time one case on all columns: samples in turn, over as many copies of the weights as exceed the cache.

    A pass of `stream` goes with each sample, so that what slowed all of memory can be told from what slowed a kernel.
    """
    draw = Draw()
    masters = [case.make(draw)]
    wanted = min(4 * cache_bytes(), MAX_FRESH_BYTES)
    copies = max(1, min(MAX_COPIES, -(-wanted // max(case.reads(masters[0]), 1))))
    masters += [case.make(draw) for _ in range(copies - 1)]
    timers = {label: KernelTimer(case.operation, ops, masters) for label, ops in columns.items()}
    if "native" in columns and case.gemm_rows >= GEMM_ROWS:
        timers[SGEMM] = KernelTimer("linear", columns["native"], [dense(m) for m in masters])
    record = KernelCase(case.name, case.operation, case.flops)
    for label, timer in timers.items():
        reads = timer.arguments[0]["w"].nbytes if label == SGEMM else case.reads(timer.arguments[0])
        found = error(case, masters[0], timer.result())
        timer.calibrate()
        record.columns[label] = KernelColumn(timer.ops.name, reads, dict(found), copies, timer.calls)
    round_seconds = sum(t.calls * t.estimate for t in timers.values())
    count = max(1, min(repeat, int(limit / max(round_seconds, 1e-9))))
    started, n, before = time.perf_counter(), 0, hardware.busy()
    while n < count or (n < MAX_SAMPLES and time.perf_counter() - started < limit and _unsure(record)):
        if stream is not None:
            record.stream.append(stream.read())
        for label, timer in list(timers.items())[:: 1 if n % 2 == 0 else -1]:
            record.columns[label].seconds.append(timer.sample())
        n += 1
    record.busy = hardware.busy().since(before)
    return record


def dense(arguments: Arguments) -> Arguments:
    """Return `linear`'s arguments for the plain float32 product of an `int4_matmul`'s activations and matrix."""
    w: Packed = arguments["w"]
    scales, biases = w.scales.astype(mx.float32), w.biases.astype(mx.float32)
    matrix = mx.dequantize(w.w, scales, biases, group_size=w.group_size, bits=w.bits)
    return {"x": arguments["x"].astype(mx.float32), "w": matrix}


def _unsure(record: KernelCase) -> bool:
    """Tell whether noise asks for more samples."""
    base = STOCK if STOCK in record.columns else next(iter(record.columns))
    others = (column.seconds for label, column in record.columns.items() if label != base)
    return stats.unsure(record.columns[base].seconds, *others)
