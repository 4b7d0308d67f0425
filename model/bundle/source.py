"""Where a canonical tensor is: a stored tensor, or consecutive rows of one that holds several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from ..formats.safetensors_file import Shape


@dataclass(frozen=True)
class Source:
    """A stored tensor, or rows of it, and the shape it is read with."""

    file: Path
    name: str
    dtype: mx.Dtype
    shape: Shape
    rows: tuple[int, int] | None = None
    """First row and the one behind the last, all leading axes taken as one; None: the whole tensor."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns, all leading axes taken as one."""
        columns = self.shape[-1] if self.shape else 1
        return math.prod(self.shape[:-1]), columns

    def shaped(self, shape: Shape) -> Source:
        """Return the same source with another shape of as many values."""
        assert math.prod(shape) == math.prod(self.shape)
        return replace(self, shape=shape)

    def cut(self, start: int, stop: int, shape: Shape | None = None) -> Source:
        """Return the rows from `start` to before `stop`."""
        assert self.rows is None
        return replace(self, rows=(start, stop), shape=shape or (stop - start, self.grid[1]))

    def read(self, file: Mapping[str, mx.array]) -> mx.array:
        """Return the tensor, cut and shaped, from its file's lazy tensors; nothing is evaluated."""
        whole = self.whole(file)
        if self.rows is not None:
            start, stop = self.rows
            whole = whole.reshape(-1, whole.shape[-1] if whole.ndim else 1)[start:stop]
        return whole if whole.shape == self.shape else whole.reshape(self.shape)

    def whole(self, file: Mapping[str, mx.array]) -> mx.array:
        """Return the stored tensor, all of its rows; lazy."""
        return file[self.name]

    def __str__(self) -> str:
        """Return the stored name, and which rows."""
        return self.name if self.rows is None else f"{self.name} rows {self.rows[0]} to {self.rows[1] - 1}"
