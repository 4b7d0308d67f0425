"""The stages of an edit, announced while they run, so that whoever listens can time them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from .progress import Progress

STAGES = ("t5 load", "text", "text k/v", "codec encode", "adapter", "steps", "codec decode")
"""The stages in order. What a stage makes is evaluated when it ends; none runs inside another."""
COMPILE = "compile"
"""The stage before "text k/v" on a backend that compiles its kernels here, while some are missing."""

Announce = Callable[[str], AbstractContextManager[Progress | None]]
"""A listener: the pipeline enters `announce(stage)` around each stage.

What it enters may be a function that takes how much of the stage is done and how much there is; "compile" calls it.
"""


def unheard(_stage: str) -> AbstractContextManager[None]:
    """Announce nothing: the default."""
    return nullcontext()
