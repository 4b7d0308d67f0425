"""Samples in order, in memory while they are few and in a temporary file beyond: an hour costs no more than minutes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UserError

IN_MEMORY = 1 << 26
"""Bytes; 8.7 minutes at 32 kHz. What is longer goes into an unnamed file in the folder for temporary files."""
BLOCK = 1 << 18
"""Samples that are read at a time."""


class Spool:
    """Samples float32 [n], written at the end and read from anywhere. Raises UserError if the disk is full."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - it lives as long as this
        self._length = 0

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._length

    def append(self, samples: npt.NDArray[Any]) -> None:
        """Add samples [n] at the end."""
        data = np.ascontiguousarray(samples, np.float32)
        try:
            self._file.seek(4 * self._length)
            self._file.write(data.data)
        except OSError as e:
            place = tempfile.gettempdir()
            raise UserError(
                f"{place}: no room for temporary files ({e.strerror or e}); free some, or set TMPDIR to another folder"
            ) from e
        self._length += len(data)

    def blocks(self, stop: int | None = None, size: int = BLOCK) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the samples before `stop`, by default all, `size` at a time."""
        end = self._length if stop is None else min(stop, self._length)
        for start in range(0, end, size):
            yield self.read(start, min(start + size, end))

    def read(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Return samples [start, stop), by default all."""
        end = self._length if stop is None else min(stop, self._length)
        self._file.seek(4 * start)
        return np.frombuffer(bytearray(self._file.read(4 * (end - start))), np.float32)

    def close(self) -> None:
        """Let go of memory and file."""
        self._file.close()
