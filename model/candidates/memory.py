"""How many candidates fit into memory, told before any of it is taken."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import psutil

from ..config import FRAME_RATE, HOP, Config
from ..delay_pattern import positions
from ..errors import UserError

MARGIN = 0.9
"""Share of the free memory that may be used."""
TEXT_TOKENS = 32
"""More than the trained sentences have."""


def bytes_a_row(config: Config, window: int, guided: bool, size: int) -> int:
    """Bytes that one candidate takes while it is decoded: its rows' caches, prefix, and the text's keys and values.

    size: bytes of a number in the language model's dtype.
    """
    lm = config.lm
    rows = 2 if guided else 1
    caches = 2 * lm.layers * lm.dim * positions(window, lm.codebooks) * rows
    prefix = 3 * config.adapter.layers * lm.dim * (window + 1)
    text = 2 * lm.layers * lm.dim * TEXT_TOKENS
    return (caches + prefix + text) * size


def needed(config: Config, frames: int, window: int, count: int, guided: bool, together: int, size: int) -> int:
    """Bytes that `count` candidates of a clip of `frames` frames take, `together` of them decoded at a time."""
    sound = 4 * HOP * frames
    # Samples of all, and beside them a copy in a file format; the codec's activations of one chunk at a time are small.
    return min(count, together) * bytes_a_row(config, min(window, frames), guided, size) + 3 * count * sound


def check(
    config: Config, frames: int, window: int, count: int, guided: bool, together: int, size: int,
    free: int | None = None,
) -> None:  # fmt: skip
    """Raise UserError, naming how many fit, if `count` candidates need more memory than is free (in bytes)."""
    free = available() if free is None else free
    allowed = int(free * MARGIN)
    if needed(config, frames, window, count, guided, together, size) <= allowed:
        return
    low, high = 0, count
    while high - low > 1:  # `needed` grows with the count
        middle = (low + high) // 2
        fits = needed(config, frames, window, middle, guided, together, size) <= allowed
        low, high = (middle, high) if fits else (low, middle)
    wanted = needed(config, frames, window, count, guided, together, size)
    fit = f"{low} fit" if low else "not even one fits: give a shorter clip"
    raise UserError(
        f"{count} candidates of {frames / FRAME_RATE:.2f} s need {wanted / 1e9:.2f} GB and {free / 1e9:.2f} GB are "
        f"free; {fit}"
    )


def available() -> int:
    """Bytes that are free for this process: of the machine, of its control group, and of a GPU's working set."""
    free = int(psutil.virtual_memory().available)
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
