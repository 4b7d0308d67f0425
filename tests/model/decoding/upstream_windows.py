"""The windows that upstream makes, its float truncation and gaps included."""

from __future__ import annotations

from model.config import FRAME_RATE
from model.decoding.windows import Window


def upstream_plan(total: int, max_duration: float, extend_stride: float) -> list[Window]:
    """The windows upstream makes, its float truncation and gaps included; durations in seconds.

    For comparison with upstream only. Offsets of a later window may lie beyond the frames generated so far.
    """
    windows: list[Window] = []
    offset = prompt = 0
    stride = int(FRAME_RATE * extend_stride)
    while offset + prompt < total and offset <= 4000:
        frames = int(min(total / FRAME_RATE - offset / FRAME_RATE, max_duration) * FRAME_RATE)
        if prompt >= frames:
            break
        windows.append(Window(offset, frames, prompt))
        prompt = max(frames - stride, 0)
        offset += stride
    return windows
