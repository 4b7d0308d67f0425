"""Write a torch checkpoint without torch: the zip that torch.save writes, for tensors in plain containers.

Only what audiocraft's exports hold: dicts, lists, text, numbers, None, and tensors, each with a storage of its own.
The same input gives the same bytes.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

STORAGES = {
    "float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage",
    "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage",
    "bool": "BoolStorage",
}  # fmt: skip
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Lazy:
    """A tensor whose values are made only when they are written."""

    shape: tuple[int, ...]
    dtype: str
    make: Callable[[], npt.NDArray[Any]]

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def save(path: str | Path, tree: Any, wrote: Callable[[int], None] | None = None) -> None:
    """Write `tree`, whose leaves are numpy arrays, `Lazy` tensors, text, numbers, booleans and None.

    `wrote`, where given, is told the bytes of each tensor once it is written.
    """
    path = Path(path)
    pickler = _Pickler()
    pickler.document(tree)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def entry(name: str, data: Any) -> None:
            archive.writestr(zipfile.ZipInfo(f"{path.stem}/{name}", EPOCH), data)

        entry("data.pkl", pickler.out.getvalue())
        entry("byteorder", b"little")
        for key, tensor in enumerate(pickler.tensors):
            value = tensor.make() if isinstance(tensor, Lazy) else tensor
            if value.shape != tensor.shape or value.dtype.name != str(tensor.dtype):
                raise ValueError(
                    f"a tensor of {value.shape} {value.dtype} where {tensor.shape} {tensor.dtype} is expected"
                )
            entry(f"data/{key}", np.ascontiguousarray(value).tobytes())
            if wrote is not None:
                wrote(value.nbytes)
        entry("version", b"3\n")


class _Pickler:
    """Protocol 2, as torch.save's, written out by hand: Python's pickler would want to import torch's names."""

    def __init__(self) -> None:
        self.out = BytesIO()
        self.tensors: list[npt.NDArray[Any] | Lazy] = []

    def document(self, tree: Any) -> None:
        self.out.write(b"\x80\x02")
        self.value(tree)
        self.out.write(b".")

    def value(self, value: Any) -> None:
        write = self.out.write
        if value is None or isinstance(value, bool):
            write({None: b"N", True: b"\x88", False: b"\x89"}[value])
        elif isinstance(value, int):
            data = value.to_bytes((value.bit_length() // 8) + 1, "little", signed=True)
            write(b"\x8a" + bytes([len(data)]) + data)
        elif isinstance(value, float):
            write(b"G" + struct.pack(">d", value))
        elif isinstance(value, str):
            text = value.encode()
            write(b"X" + struct.pack("<I", len(text)) + text)
        elif isinstance(value, tuple):
            write(b"(")
            for each in value:
                self.value(each)
            write(b"t")
        elif isinstance(value, list):
            write(b"](")
            for each in value:
                self.value(each)
            write(b"e")
        elif isinstance(value, dict):
            write(b"}(")
            for key, each in value.items():
                self.value(key)
                self.value(each)
            write(b"u")
        else:
            self.tensor(value)

    def tensor(self, tensor: npt.NDArray[Any] | Lazy) -> None:
        """Write a call of `_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`."""
        key, shape = len(self.tensors), tensor.shape
        self.tensors.append(tensor)
        strides, count = [], 1
        for size in reversed(shape):
            strides.append(count)
            count *= size
        write = self.out.write
        write(b"ctorch._utils\n_rebuild_tensor_v2\n((")
        self.value("storage")
        write(f"ctorch\n{STORAGES[str(tensor.dtype)]}\n".encode())
        for part in (str(key), "cpu", count):
            self.value(part)
        write(b"tQ")
        for argument in (0, shape, tuple(reversed(strides)), False):
            self.value(argument)
        write(b"ccollections\nOrderedDict\n)RtR")
