"""Write a safetensors file one tensor at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import mlx.core as mx
import numpy as np

from .safetensors_file import CODES

Layout = Mapping[str, tuple[mx.Dtype, tuple[int, ...]]]
"""Names, dtypes and shapes of a safetensors file, in the order they are written."""
ALIGNMENT = 64
"""Of the first tensor in the file: a cache line, as programs that map files want it."""


def layout_bytes(layout: Layout) -> int:
    """Return the bytes of all tensors of a layout."""
    return sum(math.prod(shape) * dtype.size for dtype, shape in layout.values())


class TensorWriter:
    """A safetensors file written tensor by tensor: the header comes from `layout`, so nothing waits in memory.

    `wrote`, where given, is told the bytes of each tensor once it is written.
    """

    def __init__(self, path: Path, layout: Layout, wrote: Callable[[int], None] | None = None) -> None:
        header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
        offset = 0
        for name, (dtype, shape) in layout.items():
            end = offset + math.prod(shape) * dtype.size
            header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        self._pending = iter(layout.items())
        self._wrote = wrote
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                if next(self._pending, None) is not None:
                    raise ValueError("not every tensor of the layout was written")
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def write(self, name: str, value: mx.array | np.ndarray[Any, Any]) -> None:
        """Append the next tensor of the layout. Raises ValueError if it is another one, or doesn't have its shape."""
        expected, (dtype, shape) = next(self._pending, ("nothing more", (mx.float32, ())))
        if name != expected or tuple(value.shape) != tuple(shape):
            raise ValueError(f"wrote {name} {tuple(value.shape)} where {expected} {tuple(shape)} is expected")
        if isinstance(value, mx.array):
            if value.dtype != dtype:
                raise ValueError(f"{name} is {value.dtype} where {dtype} is expected")
            value = np.array(value.view(mx.uint16) if dtype == mx.bfloat16 else value, copy=False)
        elif f"mlx.core.{value.dtype.name}" != str(dtype):
            raise ValueError(f"{name} is {value.dtype} where {dtype} is expected")
        value = np.ascontiguousarray(value)
        if value.size:
            self._file.write(value.view(np.uint8).data if value.ndim else value.tobytes())
        if self._wrote is not None:
            self._wrote(value.nbytes)
