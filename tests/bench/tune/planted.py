"""A column for `bench tune` in which one knob, and one variable of the environment, make a step faster."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

STEP = 0.004


class Planted:
    """Steps that sleep."""

    def __init__(self, candidates: Sequence[Mapping[str, Any]]) -> None:
        self._candidates = candidates

    def round(self) -> list[float]:
        """Return the seconds of a step under each of the candidates."""
        seconds = []
        for knobs in self._candidates:
            start = time.perf_counter()
            time.sleep(STEP * (0.5 if knobs.get("outputs") == 2 else 1) * (0.5 if os.environ.get("PLANTED") else 1))
            seconds.append(time.perf_counter() - start)
        return seconds


def column(candidates: Sequence[Mapping[str, Any]]) -> tuple[Planted, dict[str, Any]]:
    """Make the column."""
    return Planted(candidates), {"process": os.getpid(), "tuning": os.environ.get("INSTRUCT_MUSICGEN_TUNING")}
