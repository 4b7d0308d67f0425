"""Instruct-MusicGen: `from model import InstructMusicGen`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipeline import InstructMusicGen
    from .streaming import Chunk

__all__ = ["Chunk", "InstructMusicGen", "__version__"]

__version__: str


def __getattr__(name: str) -> object:
    """Import the pipeline, and MLX with it, only when it is asked for; look the version up likewise."""
    if name == "__version__":
        from .system.installation import program_version

        return program_version()
    if name in __all__:
        from .system.installation import check_kernels

        check_kernels()
        from . import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'model' has no attribute {name!r}")
