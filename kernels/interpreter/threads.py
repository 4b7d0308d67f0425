"""Limits of a threadgroup's threads: Metal's own, and what some chips' pipelines may refuse."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from .faults import Issue

MAX_THREADS = 1024
"""Metal's own limit."""
THREADS_EVERYWHERE = 384
"""Threads that every published pipeline of M1 and M2 takes: the registers of a core allow as many to any kernel."""

_BOUND = re.compile(r"\bmax_total_threads_per_threadgroup\s*\(\s*(\d+)\s*\)")


class ManyThreads(UserWarning):
    """A launch that the pipelines of some chips may refuse."""


def too_many(kernel: str, text: str, threadgroup: Sequence[int]) -> Issue | None:
    """Return the fault of a threadgroup with more threads than Metal or the kernel's own bound in `text` allows."""
    threads, bound = math.prod(threadgroup), _bound(text)
    most = MAX_THREADS if bound is None else min(bound, MAX_THREADS)
    if threads <= most:
        return None
    why = "the kernel's own bound is" if most == bound else "Metal has at most"
    return Issue("threadgroup-size", kernel, detail=f"{threads} threads in a threadgroup; {why} {most}")


def many(kernel: str, text: str, threadgroup: Sequence[int]) -> Issue | None:
    """Return the note on a threadgroup that runs on some chips only, or None."""
    threads = math.prod(threadgroup)
    if threads <= THREADS_EVERYWHERE:
        return None
    detail = f"{threads} threads in a threadgroup; M1 and M2 (also Pro, Max and Ultra) "
    if _bound(text) is None:
        detail += (
            f"refuse more than {THREADS_EVERYWHERE} where a kernel needs many registers, and MLX raises an error "
            f"there. Use {THREADS_EVERYWHERE} or fewer, or end the header with "
            f"[[max_total_threads_per_threadgroup({threads})]]"
        )
    else:
        detail += (
            "have few registers for so many, and where the kernel needs more, its bound makes the compiler keep "
            f"variables in memory, which is slow. Use {THREADS_EVERYWHERE} or fewer"
        )
    return Issue("many-threads", kernel, detail=detail)


def _bound(text: str) -> int | None:
    """Return the fewest threads that a kernel's text binds itself to, or None."""
    return min((int(n) for n in _BOUND.findall(text)), default=None)
