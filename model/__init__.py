"""Instruct-MusicGen: `from model import InstructMusicGen`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipeline import InstructMusicGen

__all__ = ["InstructMusicGen"]


def __getattr__(name: str) -> object:
    """Import the pipeline, and MLX with it, only when it is asked for."""
    if name == "InstructMusicGen":
        from .installation import check_kernels

        check_kernels()
        from .pipeline import InstructMusicGen

        return InstructMusicGen
    raise AttributeError(f"module 'model' has no attribute {name!r}")
