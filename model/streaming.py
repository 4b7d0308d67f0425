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
from .decoding.clip_codes import ClipCodes
from .decoding.editor import CodeEditor, Step
from .decoding.request import EditRequest
from .network.encodec import Decoding
from .progress import Progress
from .system.threads import evaluated

MAX_CHUNK = 1e6
"""Seconds; longer than any clip."""
KNOWN_FRAMES = 256
"""Frames of known codes that are held as one array."""
Heard = Callable[[mx.array], None]
"""Takes edited codes int32 [B,K,t], one part after the other."""


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


def chunks(
    editor: CodeEditor, decode: Decoding, clip: ClipCodes, request: EditRequest, samples: int, frames: int, *,
    edited: mx.array | None = None, heard: Heard | None = None, progress: Progress | None = None,
) -> Generator[Chunk, None, None]:  # fmt: skip
    """Edit a batch and yield its audio [B,samples] in chunks of at least `frames` frames, the last one excepted.

    Rows that do not run together (see `CodeEditor.batches`) take turns, so that every chunk has all rows; the caches of
    all of them are held. edited: codes that are known already, up to the end of a window; heard: is told the edited
    codes, those included. Raises what `edit_steps` and `decode` raise.
    """
    batches = editor.batches(request.texts, request.guidance)
    runs = [_Run(editor, clip, request, rows, edited) for rows in batches]
    order = mx.argsort(mx.array([row for rows in batches for row in rows]))
    size, total, steps = decode.codec.block, clip.frames, sum(run.total for run in runs)
    waiting: list[mx.array] = []
    given = since = 0

    def tell() -> None:
        if progress is not None:
            progress(sum(run.done for run in runs), steps)

    try:
        for start in range(0, total, size):
            stop = min(start + size, total)
            codes = mx.concatenate([run.take(stop - start, tell) for run in runs])[order]
            if heard is not None:
                heard(codes)
            waiting.append(decode(codes, stop == total))
            if stop - since < frames and stop < total:
                continue
            ready = evaluated(mx.concatenate(waiting, axis=1)[:, : samples - given])
            yield Chunk(ready, given / SAMPLE_RATE, sum(run.done for run in runs), steps, stop == total)
            waiting, given, since = [], given + ready.shape[1], stop
    finally:
        for run in runs:
            run.steps.close()


class _Run:
    """Rows that run together, and the frames that their steps complete."""

    def __init__(
        self, editor: CodeEditor, clip: ClipCodes, request: EditRequest, rows: Sequence[int], edited: mx.array | None
    ) -> None:
        self.steps: Generator[Step, None, mx.array] = editor.edit_steps(
            clip, *request, pad_texts=False, rows=rows, edited=edited
        )
        self.total, self.done = sum(window.steps for window in request.plan), 0
        self._ends = {window.stop for window in request.plan}
        self._frames: deque[mx.array] = deque()
        self._tokens: list[mx.array] = []
        self._ready = self._taken = 0
        if edited is not None:
            self._ready = edited.shape[2]
            self.done = sum(window.steps for window in request.plan if window.stop <= self._ready)
            own = edited[mx.array(list(rows))]
            self._frames.extend(own[:, :, at : at + KNOWN_FRAMES] for at in range(0, self._ready, KNOWN_FRAMES))

    def take(self, count: int, tell: Callable[[], None]) -> mx.array:
        """Return the next `count` frames of edited codes, int32 [rows,K,count]; `tell` after each step."""
        self._taken += count
        while self._ready < self._taken:
            self._step()
            tell()
        if self._ready == max(self._ends):
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
