"""The steps of an edit, as `CodeEditor.edit_steps` yields them, and a run of all of them."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import mlx.core as mx

from ..progress import Progress


class Step(NamedTuple):
    """One generated position: how many are done of how many, its tokens int32 [b,4,1], and the b clips they are of."""

    done: int
    total: int
    tokens: mx.array
    rows: tuple[int, ...]


def edited(run: Generator[Step, None, mx.array], progress: Progress | None = None) -> mx.array:
    """Run all steps, report each to `progress`, and return the edited codes int32 [B,4,T]."""
    while True:
        try:
            step = next(run)
        except StopIteration as end:
            codes: mx.array = end.value
            return codes
        if progress is not None:
            progress(step.done, step.total)
