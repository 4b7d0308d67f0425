"""What MLX may keep of a GPU's memory while edits run.

MLX keeps the buffers that it has freed, to use them again. An adapter's pass over 10 s and a prompt's pass need
hundreds of MB that a step has no use for; on a machine with 8 GB they take the place of the weights.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from ..errors import UserError

CACHE = "INSTRUCT_MUSICGEN_CACHE_LIMIT_MB"
WIRED = "INSTRUCT_MUSICGEN_WIRED_LIMIT_MB"
CACHE_MB = 512
"""Many times what the layers of a step use and free (some MB), so that a step never waits for an allocation; and small
against the weights. Not tuned: no Apple GPU was at hand."""


KEPT_BYTES = 128 << 20
"""Buffers up to this size come from the heap, and so much at its end is kept: three of the codec's largest signals."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
GLIBC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def limit() -> None:
    """Set what may be kept of freed memory. Raises UserError for a variable that is not a number of megabytes.

    MLX's limits, where there is a Metal GPU; elsewhere glibc's, see `keep_freed`.

    Freed buffers: CACHE_MB. Wired memory, which macOS does not page out while the GPU is idle between steps: all that
    Metal recommends for a GPU's work (macOS 15 and later; before, MLX has no such limit).
    """
    cache, wired = _megabytes(CACHE), _megabytes(WIRED)
    if not mx.metal.is_available():
        return keep_freed()
    mx.set_cache_limit((CACHE_MB if cache is None else cache) << 20)
    most = int(mx.device_info().get("max_recommended_working_set_size", 0))
    mx.set_wired_limit(most if wired is None else min(wired << 20, most))


def keep_freed() -> None:
    """Let glibc keep what is freed until `release`.

    By itself it returns large buffers at once, and the next operation's has to be zeroed page by page: a fifth of the
    codec's time on a CPU. What the user set by glibc's own variables stays.
    """
    if any(os.environ.get(name) for name in GLIBC_VARIABLES) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    if (set_option := _glibc("mallopt")) is not None:
        for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            set_option(option, KEPT_BYTES)


def release() -> None:
    """Give back freed buffers between stages: a prefill's before the steps, the steps' before the codec decodes.

    MLX keeps them for a GPU. On a CPU it is the C library that does: freed caches and activations would stay beside the
    next stage's (some 100 MB with the large model).
    """
    mx.clear_cache()
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)


@functools.cache
def _glibc(name: str) -> Callable[..., int] | None:
    """Return a function of glibc's own: `malloc_trim` gives free pages back, `mallopt` sets options; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found


def report() -> dict[str, Any]:
    """Return the limits and what MLX holds now, in bytes, for `doctor`."""
    return {
        "cache limit": CACHE_MB << 20 if (told := _megabytes(CACHE)) is None else told << 20,
        "wired limit": "what Metal recommends" if (told := _megabytes(WIRED)) is None else told << 20,
        "active": mx.get_active_memory(),
        "cached": mx.get_cache_memory(),
        "peak": mx.get_peak_memory(),
    }


def _megabytes(variable: str) -> int | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise UserError(f"{variable}={text} is not a number of megabytes; give a whole number, 0 for none")
    return int(text)
