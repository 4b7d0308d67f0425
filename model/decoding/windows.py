"""Clips longer than the adapter's window are edited window by window, each continuing the one before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import mlx.core as mx

from .decode import Decoder
from .delay_pattern import positions, undo_delay


class Window(NamedTuple):
    """Frames [offset, offset + frames) of the clip; the first `prompt` of them are already edited.

    The adapter hears `ahead` frames of the clip more, which a later window edits.
    """

    offset: int
    frames: int
    prompt: int
    ahead: int = 0

    @property
    def stop(self) -> int:
        """The end of the window: one past its last edited frame."""
        return self.offset + self.frames

    @property
    def steps(self) -> int:
        """The decode steps of the window."""
        return positions(self.frames) - self.prompt - 1


def plan(total: int, window: int, stride: int, ahead: int = 0) -> list[Window]:
    """Lay out windows over all `total` frames: `window` long, `stride` apart, overlapping by the prompt.

    Upstream's rule in whole frames, except that the last `ahead` frames of a window are heard and not edited, unless
    the clip ends with them. Upstream computes a window's length in floating-point seconds and truncates, which can lose
    the last frame, and lets the stride exceed the window, which skips frames; both are bugs and not kept here.
    """
    if total < 1:
        raise ValueError(f"{total} frames: there must be at least one")
    if window < 1 or not 0 <= ahead < window or not 1 <= stride <= window - ahead:
        raise ValueError(
            f"window of {window} frames, stride of {stride} and look-ahead of {ahead}: needs 0 <= look-ahead < window "
            "and 1 <= stride <= window - look-ahead"
        )
    windows: list[Window] = []
    offset = prompt = 0
    while not windows or windows[-1].stop < total:
        heard = min(window, total - offset)
        unedited = 0 if offset + heard == total else ahead
        windows.append(Window(offset, heard - unedited, prompt, unedited))
        offset, prompt = offset + stride, windows[-1].frames - stride
    return windows


class WindowedEdit:
    """Rows that are edited together, window after window: iterate for each position's tokens int32 [B,K,1].

    clip: gives what the adapter hears of a window, int32 [B,K,frames + ahead + 1]. edited: what is already edited,
    int32 [B,K,n]; it must end where a window does. Raises ValueError if it doesn't.
    """

    def __init__(
        self, decoder: Decoder, clip: Callable[[Window], mx.array], plan: Sequence[Window], seeds: Sequence[int],
        edited: mx.array,
    ) -> None:  # fmt: skip
        self.decoder, self.clip, self.plan, self.seeds = decoder, clip, plan, seeds
        self.parts = [edited]
        known = edited.shape[2]
        if known not in (0, *(window.stop for window in plan)):
            raise ValueError(f"{known} frames are already edited; no window ends there")

    def __iter__(self) -> Iterator[mx.array]:
        """Generate the windows that are left."""
        (edited,) = self.parts
        known = edited.shape[2]
        for number, window in enumerate(self.plan):
            if window.stop <= known:
                continue
            prompt = edited[:, :, edited.shape[2] - window.prompt :]
            run = self.decoder.tokens(self.clip(window), prompt, window.frames, self.seeds, number)
            sequence = [next(run)]
            for tokens in run:
                sequence.append(tokens)
                yield tokens
            edited = undo_delay(mx.concatenate(sequence, axis=2), window.frames)
            mx.eval(edited)
            self.parts.append(edited[:, :, window.prompt :])

    @property
    def codes(self) -> mx.array:
        """The codes edited so far, int32 [B,K,n]."""
        return mx.concatenate(self.parts, axis=2)
