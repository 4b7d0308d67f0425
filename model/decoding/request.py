"""What an edit is to do, checked before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import mlx.core as mx

from .. import checks
from ..config import HOP, AdapterConfig
from . import windows
from .guidance import MAX_GUIDANCE
from .sampling import Sampling
from .windows import Window

LOOK_AHEAD = 0
"""Frames that a window hears beyond what it edits: none, as upstream, until `bench seams` shows on trained weights that
more is better."""


class EditRequest(NamedTuple):
    """A batch's edit, in the order in which `InstructMusicGen.edit_steps` takes it."""

    texts: list[str]
    plan: list[Window]
    sampling: Sampling
    guidance: float
    seeds: list[int]


def edit_request(
    text: str | Sequence[str], rows: int, plan: list[Window], seed: int | Sequence[int] | None, sampling: Sampling,
    guidance: float,
) -> EditRequest:  # fmt: skip
    """Check what is asked for `rows` clips. Raises ValueError, naming the value and the fix."""
    guidance = checks.number("guidance", guidance, -MAX_GUIDANCE, MAX_GUIDANCE)
    return EditRequest(checks.texts(text, rows), plan, sampling, guidance, checks.seeds(seed, rows))


def clip(audio: Any, max_steps: int | None) -> mx.array:
    """Return audio float32 [samples] or [batch, samples], the first `max_steps` frames of it if that is given."""
    found = checks.samples(audio)
    if max_steps is None:
        return found
    max_steps = checks.whole("max_steps", max_steps, 1)
    return found[..., : min(max_steps * HOP, found.shape[-1])]  # MLX takes 32-bit bounds only


def layout(
    adapter: AdapterConfig, total: int, window: int | None, stride: int | None, ahead: int | None
) -> list[Window]:
    """Lay out windows over `total` frames; None stands for the default. Raises ValueError for what does not fit.

    By default a window is as long as the adapter was trained on, and the windows stand half of what they edit apart.
    """
    if window is not None:
        window = checks.whole("window_frames", window, 1, adapter.max_n_frames)
    window = window or adapter.window_frames
    ahead = checks.whole("look_ahead_frames", LOOK_AHEAD if ahead is None else ahead, 0, window - 1)
    if stride is not None:
        stride = checks.whole("stride_frames", stride, 1, window - ahead)
    return windows.plan(total, window, stride or max((window - ahead) // 2, 1), ahead)
