"""Clips longer than the adapter's window are edited window by window, each continuing the one before it."""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """Frames [offset, offset + frames) of the clip; the first `prompt` of them are already edited."""

    offset: int
    frames: int
    prompt: int


def plan(total: int, window: int, stride: int) -> list[Window]:
    """Windows that cover all `total` frames: `window` long, `stride` apart, overlapping by the prompt.

    Upstream's rule in whole frames. Upstream computes a window's length in floating-point seconds and truncates, which
    can lose the last frame, and lets the stride exceed the window, which skips frames; both are bugs and not kept here.
    """
    if total < 1:
        raise ValueError(f"{total} frames: there must be at least one")
    if window < 1 or not 1 <= stride <= window:
        raise ValueError(f"window of {window} frames and stride of {stride}: needs 1 <= stride <= window")
    windows = [Window(0, min(window, total), 0)]
    while windows[-1].offset + windows[-1].frames < total:
        last = windows[-1]
        offset = last.offset + stride
        windows.append(Window(offset, min(window, total - offset), last.frames - stride))
    return windows
