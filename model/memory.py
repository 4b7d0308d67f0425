"""How many edits fit into memory, told before any of it is taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from .config import FRAME_RATE, HOP, Config
from .decoding.delay_pattern import positions
from .decoding.windows import Window
from .errors import UserError
from .pipeline import ROWS_TOGETHER, InstructMusicGen
from .system import machine

MARGIN = 0.9
"""Share of the free memory that may be used."""
TEXT_TOKENS = 32
"""Tokens that a text is assumed to have; trained sentences have fewer."""


class Need(NamedTuple):
    """The sizes that decide how much memory edits of clips of `frames` frames take.

    window: frames of the longest window; guided: each has an unconditional row too; together: clips that are decoded
    at a time; size: bytes of a number in the language model's dtype.
    """

    config: Config
    frames: int
    window: int
    guided: bool
    together: int
    size: int

    def a_row(self) -> int:
        """Return the bytes that one clip takes while it is decoded: caches, prefix, the text's keys and values."""
        lm = self.config.lm
        caches = 2 * lm.layers * lm.dim * positions(self.window, lm.codebooks) * (2 if self.guided else 1)
        prefix = 3 * self.config.adapter.layers * lm.dim * (self.window + 1)
        text = 2 * lm.layers * lm.dim * TEXT_TOKENS
        return (caches + prefix + text) * self.size

    def of(self, count: int) -> int:
        """Return the bytes that `count` clips take, with the samples of all and their copy in a file's format."""
        return min(count, self.together) * self.a_row() + 3 * count * 4 * HOP * self.frames

    def most(self, count: int, free: int) -> int:
        """Return how many of `count` fit into so many free bytes."""
        low, high = 0, count + 1
        while high - low > 1:  # `of` grows with the count
            middle = (low + high) // 2
            low, high = (middle, high) if self.of(middle) <= free * MARGIN else (low, middle)
        return low


def need_of(model: InstructMusicGen, plan: Sequence[Window], guidance: float) -> Need:
    """Return the sizes that decide what edits by this plan need."""
    guided = guidance != 1
    return Need(
        model.bundle.config, plan[-1].offset + plan[-1].frames, max(window.frames for window in plan), guided,
        ROWS_TOGETHER // 2 if guided else ROWS_TOGETHER, model.lm.dtype.size,
    )  # fmt: skip


def check(need: Need, count: int, free: int | None = None) -> None:
    """Raise UserError, naming how many fit, if `count` candidates need more memory than is free (in bytes)."""
    free = available() if free is None else free
    fit = need.most(count, free)
    if fit < count:
        can = f"{fit} fit" if fit else "not even one fits: give a shorter clip"
        raise UserError(
            f"{count} candidates of {need.frames / FRAME_RATE:.2f} s need {need.of(count) / 1e9:.2f} GB and "
            f"{free / 1e9:.2f} GB are free; {can}"
        )


def available() -> int:
    """Return the bytes that are free for this process.

    The least of what the machine, its control group and a GPU's working set have left.
    """
    free = machine.available()
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            most, taken = Path(limit).read_text().strip(), Path(used).read_text().strip()
            free = min(free, int(most) - int(taken)) if most.isdigit() else free
        except (OSError, ValueError):
            continue
    if mx.metal.is_available():
        free = min(free, int(mx.device_info()["max_recommended_working_set_size"]) - mx.get_active_memory())
    return max(free, 0)
