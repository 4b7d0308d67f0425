"""The stages of an edit, announced while they run, so that whoever listens can time them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

STAGES = ("t5 load", "text", "text k/v", "codec encode", "adapter", "steps", "codec decode")
"""In order. What a stage makes is evaluated when it ends; none runs inside another."""

Announce = Callable[[str], AbstractContextManager[None]]
"""A listener: the pipeline enters `announce(stage)` around each stage."""


def unheard(_stage: str) -> AbstractContextManager[None]:
    """Announce a stage to nobody."""
    return nullcontext()
