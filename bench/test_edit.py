"""RTF of a whole edit of half a second with the demo bundle, on every backend that can run here."""

from __future__ import annotations

from typing import Any

from bench.edit.session import ColumnSettings, Session
from bench.kernels.timer import Timer
from bench.sizes import bundles as sizes
from kernels import Ops
from model.bundle.bundle import demo_path
from model.stages import STAGES

SECONDS = 0.5


def test_edit(benchmark: Any, paired: Any) -> None:
    """Time a round as `bench edit` runs it; `rtf` is in extra_info."""
    bundle = demo_path() if demo_path().exists() else sizes.bundle("tiny", 4)

    def session(ops: Ops) -> Timer:
        made = Session(ColumnSettings(str(bundle), ops.name, SECONDS), ops)
        made.warm_up()
        return Timer(lambda _: made.round())

    last = paired(session, 5.0)
    benchmark.extra_info["case"] = f"edit of {SECONDS} s"
    if benchmark.stats is not None:
        benchmark.extra_info["rtf"] = benchmark.stats.stats.median / SECONDS
    assert set(last.seconds) == set(STAGES)
