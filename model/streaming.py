"""Edited audio while it is being made: chunks of samples, each as soon as it is final.

A frame is complete with the fourth position from its own (the delay pattern), and its samples are final 3.75 frames
later, when nothing that follows can change them any more (`encodec.Decoding`): 0.14 s behind the steps, however long
the clip is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import mlx.core as mx

from . import checks
from .config import FRAME_RATE, SAMPLE_RATE
from .decoding.steps import Step
from .decoding.windows import Window
from .network.encodec import Decoding
from .progress import Progress
from .system.threads import evaluated

MAX_CHUNK = 1e6
"""Seconds of the longest chunk that may be asked for; longer than any clip."""
KNOWN_FRAMES = 256
"""Frames of known codes that are held as one array."""
OnCodes = Callable[[mx.array], None]
"""A function that takes edited codes int32 [B,K,t], one part after the other."""


class Chunk(NamedTuple):
    """A part of an edit that is final: the parts, joined along the last axis, are what `generate` returns."""

    samples: mx.array
    """float32 [samples] or [batch, samples], as the clip was given; evaluated."""
    start: float
    """Seconds from the clip's beginning to the first of the samples."""
    done: int
    """Steps done so far."""
    total: int
    """Steps in all."""
    last: bool
    """Whether it is the last one."""


def chunk_frames(seconds: float) -> int:
    """Return the frames of a chunk. Raises ValueError unless it holds at least one."""
    return round(checks.number("chunk_seconds", seconds, 1 / FRAME_RATE, MAX_CHUNK) * FRAME_RATE)


class FrameRun:
    """The steps of rows that run together, taken as the frames that they complete."""

    def __init__(
        self, steps: Generator[Step, None, mx.array], rows: Sequence[int], plan: Sequence[Window],
        edited: mx.array | None = None,
    ) -> None:  # fmt: skip
        """Take the steps of `rows` of a batch; edited: codes of the whole batch that the steps go on from."""
        self.steps, self.rows = steps, rows
        self.total, self.done = sum(window.steps for window in plan), 0
        self._ends = {window.stop for window in plan}
        self._frames: deque[mx.array] = deque()
        self._tokens: list[mx.array] = []
        self._ready = self._taken = 0
        if edited is not None:
            self._ready = edited.shape[2]
            self.done = sum(window.steps for window in plan if window.stop <= self._ready)
            own = edited[mx.array(list(rows))]
            self._frames.extend(own[:, :, at : at + KNOWN_FRAMES] for at in range(0, self._ready, KNOWN_FRAMES))

    @property
    def frames(self) -> int:
        """The frames of the clip."""
        return max(self._ends)

    def take(self, count: int, report: Callable[[], None]) -> mx.array:
        """Return the next `count` frames of edited codes, int32 [rows,K,count]; `report` after each step."""
        self._taken += count
        while self._ready < self._taken:
            self._step()
            report()
        if self._ready == self.frames:
            for _ in self.steps:  # at its end it notices predictions that are no numbers
                raise AssertionError("there are more steps than frames")
        found: list[mx.array] = []
        while count:
            part = self._frames.popleft()
            if part.shape[2] > count:
                self._frames.appendleft(part[:, :, count:])
            found.append(part[:, :, :count])
            count -= found[-1].shape[2]
        return mx.concatenate(found, axis=2)

    def _step(self) -> None:
        step = next(self.steps)
        self.done = step.done
        # The first position that a window generates holds codebook 0 of its first new frame, the next one codebook 1.
        self._tokens.append(step.tokens)
        codebooks = step.tokens.shape[1]
        if len(self._tokens) == codebooks:
            self._frames.append(mx.stack([self._tokens[k][:, k] for k in range(codebooks)], axis=1))
            self._ready += 1
            self._tokens = [] if self._ready in self._ends else self._tokens[1:]


def chunks(
    runs: Sequence[FrameRun], decode: Decoding, samples: int, frames: int, *, on_codes: OnCodes | None = None,
    progress: Progress | None = None,
) -> Generator[Chunk, None, None]:  # fmt: skip
    """Yield the audio [B,samples] of a batch's runs in chunks of at least `frames` frames, the last one excepted.

    The runs take turns, so that every chunk has all rows. on_codes: takes the edited codes, part by part. Raises what
    the steps and `decode` raise.
    """
    order = mx.argsort(mx.array([row for run in runs for row in run.rows]))
    size, total, steps = decode.codec.block, runs[0].frames, sum(run.total for run in runs)
    waiting: list[mx.array] = []
    given = since = 0

    def report() -> None:
        if progress is not None:
            progress(sum(run.done for run in runs), steps)

    try:
        for start in range(0, total, size):
            stop = min(start + size, total)
            codes = mx.concatenate([run.take(stop - start, report) for run in runs])[order]
            if on_codes is not None:
                on_codes(codes)
            waiting.append(decode(codes, stop == total))
            if stop - since < frames and stop < total:
                continue
            ready = evaluated(mx.concatenate(waiting, axis=1)[:, : samples - given])
            yield Chunk(ready, given / SAMPLE_RATE, sum(run.done for run in runs), steps, stop == total)
            waiting, given, since = [], given + ready.shape[1], stop
    finally:
        for run in runs:
            run.steps.close()
