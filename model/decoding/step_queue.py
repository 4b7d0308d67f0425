"""When a step is handed to MLX: in two halves, each once the same half of the step before has been waited for."""

from __future__ import annotations

import mlx.core as mx


class StepQueue:
    """Enqueues decode steps so that the device always holds half a step while Python builds the next one.

    A cache is written in place only if nothing that is enqueued still reads it; otherwise MLX copies all of it. Hence
    the rule that each half keeps: no cache is enqueued before its last reader has been waited for. The readers of the
    first half's caches are done when the first half of the step before is, while its second half still runs.
    """

    def __init__(self) -> None:
        self._half: tuple[mx.array, ...] = ()
        self._end: tuple[mx.array, ...] = ()

    def __call__(self, half: mx.array, *end: mx.array) -> None:
        """Enqueue a step: `half`, which depends on its first layers alone, and `end`, what it results in."""
        self._wait(self._half)
        self._enqueue(half)
        self._wait(self._end)
        self._enqueue(*end)
        self._half, self._end = (half,), end

    def _wait(self, arrays: tuple[mx.array, ...]) -> None:
        if arrays:
            mx.eval(*arrays)

    def _enqueue(self, *arrays: mx.array) -> None:
        mx.async_eval(*arrays)  # type: ignore[no-untyped-call]
