"""Write a bundle's files: tensors one at a time, and the whole folder or nothing."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import UserError

DTYPES: dict[str, mx.Dtype] = {
    "F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16, "U32": mx.uint32, "I32": mx.int32, "I64": mx.int64,
    "U8": mx.uint8, "I8": mx.int8, "U16": mx.uint16, "I16": mx.int16, "U64": mx.uint64, "BOOL": mx.bool_,
}  # fmt: skip
"""The dtypes of safetensors that MLX has."""
CODES = {dtype: code for code, dtype in DTYPES.items()}
BUNDLE_FILES = {"config.json", "model.safetensors", "compression_state_dict.bin", "encodec", "t5"}

Layout = Mapping[str, tuple[mx.Dtype, tuple[int, ...]]]
"""Names, dtypes and shapes of a safetensors file, in the order they are written."""


def layout_bytes(layout: Layout) -> int:
    """Bytes of all tensors of a layout."""
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
        text += b" " * (-len(text) % 8)
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
        """Append the next tensor of the layout. ValueError if it is another one, or doesn't have its shape."""
        expected, (dtype, shape) = next(self._pending, ("nothing more", (mx.float32, ())))
        if name != expected or tuple(value.shape) != tuple(shape):
            raise ValueError(f"wrote {name} {tuple(value.shape)} where {expected} {tuple(shape)} is due")
        if isinstance(value, mx.array):
            if value.dtype != dtype:
                raise ValueError(f"{name} is {value.dtype} where {dtype} is due")
            value = np.array(value.view(mx.uint16) if dtype == mx.bfloat16 else value, copy=False)
        elif f"mlx.core.{value.dtype.name}" != str(dtype):
            raise ValueError(f"{name} is {value.dtype} where {dtype} is due")
        value = np.ascontiguousarray(value)
        if value.size:
            self._file.write(value.view(np.uint8).data if value.ndim else value.tobytes())
        if self._wrote is not None:
            self._wrote(value.nbytes)


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """A temporary sibling of `out` that takes its place when the block ends well, and is removed when it doesn't.

    `out` may not exist yet, be empty, or be a bundle, which is then replaced. UserError: it is something else, the
    place is not writable, or the disk is full. A terminating signal (Ctrl-C, SIGTERM) cleans up too; what a killed
    process leaves is a hidden sibling that the next call removes.
    """
    out = Path(os.path.abspath(out))
    _check_target(out)
    _remove_stale(out)
    part = out.parent / f".{out.name}.part-{os.getpid()}"
    try:
        with _terminable():
            out.parent.mkdir(parents=True, exist_ok=True)
            part.mkdir()
            yield part
            _swap(part, out)
    except OSError as e:
        shutil.rmtree(part, ignore_errors=True)
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"the disk is full: cannot write {out}; free space or choose another --out") from e
        raise UserError(f"cannot write {out}: {e.strerror or e}; choose another --out") from e
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def need_space(folder: Path, nbytes: int) -> None:
    """UserError if the disk of `folder` has less than `nbytes` free: better now than after an hour."""
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise UserError(
            f"the disk is full: {folder.parent} has {free / 1e6:.0f} MB free and {nbytes / 1e6:.0f} MB are needed; "
            "free space or choose another --out"
        )


def _check_target(out: Path) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise UserError(f"{out} exists and is not a folder; choose another --out")
    names = {p.name for p in out.iterdir()}
    if names and not ({"config.json", "model.safetensors"} <= names <= BUNDLE_FILES):
        raise UserError(f"{out} exists and is not (only) a bundle; choose another --out or empty it")


def _remove_stale(out: Path) -> None:
    """Remove what killed processes left; those of processes that still run are theirs."""
    if not out.parent.is_dir():
        return
    for each in out.parent.glob(f".{_glob_escape(out.name)}.part-*"):
        pid = each.name.rpartition("-")[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(each, ignore_errors=True)


def _glob_escape(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid != os.getpid()


def _swap(part: Path, out: Path) -> None:
    """Put `part` where `out` is; an old bundle is moved aside first and removed last."""
    if not out.exists():
        part.rename(out)
        return
    old = out.parent / f".{out.name}.old-{os.getpid()}"
    out.rename(old)
    try:
        part.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception for the time of the block, so that clean-up runs."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
