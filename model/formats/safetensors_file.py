"""Check a safetensors file by its header alone, before memory is taken; then load it lazily."""

from __future__ import annotations

import errno
import json
import math
import stat
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..errors import UserError

DTYPES: dict[str, mx.Dtype] = {
    "F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16, "U32": mx.uint32, "I32": mx.int32, "I64": mx.int64,
    "U8": mx.uint8, "I8": mx.int8, "U16": mx.uint16, "I16": mx.int16, "U64": mx.uint64, "BOOL": mx.bool_,
}  # fmt: skip
"""The dtypes of safetensors that MLX has."""
CODES = {dtype: code for code, dtype in DTYPES.items()}
MAX_HEADER = 100 << 20
"""The format's own limit."""

FLOATS = (mx.float16, mx.bfloat16, mx.float32)
"""What weights may be stored as."""

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Header = dict[str, tuple[mx.Dtype, Shape]]
Places = dict[str, tuple[int, Shape, mx.Dtype]]
"""The byte of the file that each tensor begins at, its shape and its dtype."""


def file_size(path: Path) -> int:
    """Return the bytes of a regular file.

    Raises OSError for anything else, which may have no end or wait for a writer.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is a directory" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
    return status.st_size


def _unreadable(path: Path, reason: object, fix: str = "get a whole copy") -> UserError:
    """Return the error for a file that cannot be read; an OSError says whether it is there, not that it is damaged."""
    if isinstance(reason, OSError):
        reason, fix = reason.strerror or reason, "give a file that can be read"
    return UserError(f"cannot read {path}: {reason}; {fix}")


def read_json(path: Path, limit: int = 16 << 20) -> dict[str, Any]:
    """Return a JSON object from a file. Raises UserError if it is none, or holds NaN or infinities."""

    def refuse(constant: str) -> float:
        raise ValueError(f"it holds {constant}")

    try:
        if file_size(path) > limit:
            raise ValueError(f"it has more than {limit} bytes")
        value = json.loads(path.read_bytes(), parse_constant=refuse)
    except (OSError, ValueError, RecursionError) as e:
        raise _unreadable(path, e, "give a whole JSON object") from e
    if not isinstance(value, dict):
        raise _unreadable(path, f"it holds a {type(value).__name__}", "give a whole JSON object")
    return value


def read_header(path: Path) -> Header:
    """Return the dtype and shape of each tensor by name.

    Raises UserError if the file is truncated or damaged, or has a dtype that MLX doesn't have.
    """
    return {name: (dtype, shape) for name, (_, shape, dtype) in _places(path).items()}


def _places(path: Path) -> Places:
    try:
        size = file_size(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER):
                raise ValueError("its header goes past the end of the file, so that it is truncated or not safetensors")
            entries = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError) as e:
        raise _unreadable(path, e) from e
    if not isinstance(entries, dict):
        raise _unreadable(path, "its header is not an object")
    entries.pop("__metadata__", None)
    places: Places = {}
    spans = []
    for name, entry in entries.items():
        (dtype, shape), span = _entry(path, name, entry)
        places[name] = 8 + length + span[0], shape, dtype
        spans.append(span)
    # The format demands that tensors fill the data without holes or overlaps.
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise _unreadable(path, f"its tensors overlap or leave a hole at byte {end}")
        end = stop
    if 8 + length + end != size:
        state = "truncated" if 8 + length + end > size else "longer than its header says"
        raise UserError(f"{path} is {state}: {size} bytes instead of {8 + length + end}; fetch or convert it again")
    return places


def _entry(path: Path, name: str, entry: Any) -> tuple[tuple[mx.Dtype, Shape], tuple[int, int]]:
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [int(start), int(stop)]} if all(
            type(n) is int and n >= 0 for n in shape
        ):
            pass
        case _:
            raise _unreadable(path, f"its header is damaged at {name!r}")
    if code not in DTYPES:
        raise _unreadable(path, f"{name} has dtype {code}", f"use one of {', '.join(DTYPES)}")
    if len(shape) > 16 or start < 0 or stop - start != math.prod(shape) * DTYPES[code].size:
        raise _unreadable(path, f"the extent of {name} does not fit its shape {shape[:16]} of {code}")
    return (DTYPES[code], tuple(shape)), (start, stop)


def lazy(path: Path) -> dict[str, mx.array]:
    """Return the tensors, each read from the file only when it is evaluated. Check with `read_header` first.

    On a CPU, with the native extension, they are the system's cache of the file itself: reading copies nothing.
    """
    if (mapped := map_tensors(path, _places(path))) is not None:
        return mapped
    try:
        loaded = mx.load(str(path), format="safetensors")
    except (RuntimeError, ValueError) as e:
        raise _unreadable(path, e) from e
    assert isinstance(loaded, dict)
    return loaded


def map_tensors(path: Path, places: Places) -> dict[str, mx.array] | None:
    """Return tensors of a file as lazy arrays that share the system's cache of it; None where that cannot be.

    Raises UserError for a file that is not there.
    """
    from kernels import native  # here, since headers are read without it

    try:
        with path.open("rb") as file:
            arrays = native.file_arrays(file.fileno(), list(places.values()))
    except (OSError, RuntimeError) as e:
        raise _unreadable(path, e) from e
    return None if arrays is None else dict(zip(places, arrays))
