"""Tensors of files whose memory is the system's cache of the file: see src/runtime/mapped_file.h."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import mlx.core as mx

from .settings import NativeSettings

FileTensor = tuple[int, tuple[int, ...], mx.Dtype]
"""The byte that a tensor begins at, its shape and its dtype."""


def reader(
    extension: ModuleType | None, settings: NativeSettings
) -> Callable[[int, Sequence[FileTensor]], list[mx.array] | None]:
    """Return the function that makes arrays of a file."""

    def file_arrays(fd: int, tensors: Sequence[FileTensor]) -> list[mx.array] | None:
        """Return lazy arrays of an open file, of which the extension keeps a descriptor of its own.

        Return None, for the caller to read it another way, where the system or this MLX cannot have them, where the
        setting forbids it, and where a tensor is empty or not aligned to its elements.
        """
        if extension is None or settings.files == "read" or not extension.can_map_arrays():
            return None
        if any(0 in shape or start % dtype.size or start < 8 for start, shape, dtype in tensors):
            return None
        found: list[mx.array] = extension.file_arrays(fd, list(tensors))
        return found

    return file_arrays
