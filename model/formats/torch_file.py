"""Read torch checkpoints (`.bin`, `.ckpt`, `.pt`) without torch and without running anything in them.

A checkpoint is a zip: a pickle that describes the objects, and one stored entry for each tensor storage. Python's own
unpickler calls whatever the pickle names; `model.formats.inert_pickle` instead interprets the opcodes and only ever
builds plain containers, `Tensor` records and inert `Symbol`/`Placeholder` marks, so there is nothing to call. Sizes are
checked against the file before any memory is taken; storages are mapped, not read.
"""

from __future__ import annotations

import math
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from ..errors import UserError
from .inert_pickle import interpret
from .pickle_symbols import SAVE, MalformedPickleError, Placeholder, Symbol
from .safetensors_file import file_size, map_tensors

MAX_PICKLE = 64 << 20
"""Bytes of pickle that are interpreted; the real checkpoints' are below 1 MB, the weights are not in it."""

STORED = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
}  # fmt: skip
TORCH_DTYPES = {
    "float64", "double", "float32", "float", "float16", "half", "bfloat16", "int64", "long", "int32", "int", "int16",
    "short", "int8", "uint8", "bool",
}  # fmt: skip
FLOATS = ("float16", "bfloat16", "float32", "float64")
"""The dtypes that weights may have, by the names of `Tensor.dtype`."""
ALIASES = {
    "double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32", "short": "int16",
}  # fmt: skip
DTYPES = {"float32": mx.float32, "float16": mx.float16}
"""What MLX may have of a file as it lies there."""
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class Storage:
    """Bytes of the file that tensors share: `count` items of `dtype` from byte `start` on."""

    path: Path
    start: int
    nbytes: int
    dtype: str


@dataclass(frozen=True)
class Tensor:
    """A strided view of a storage, not read yet; offset and strides count items. Its bounds have been checked."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def numpy(self) -> npt.NDArray[Any]:
        """Return the values as a read-only array mapped from the file; bfloat16, which numpy lacks, as (exact) float32.

        The mapping lives as long as the array, so a caller who goes tensor by tensor keeps only one in memory.
        """
        raw = _numpy_dtype(self.dtype)
        if self.size == 0:
            return np.zeros(self.shape, np.float32 if self.dtype == "bfloat16" else raw)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        first = self.storage.start + self.offset * raw.itemsize
        try:
            mapped = np.memmap(self.storage.path, raw, "r", first, (last - self.offset + 1,))
        except (OSError, ValueError) as e:
            raise UserError(f"cannot read {self.storage.path}: {e}") from e
        steps = tuple(s * raw.itemsize for s in self.strides)
        view = np.lib.stride_tricks.as_strided(mapped, self.shape, steps, writeable=False)
        if self.dtype == "bfloat16":
            return (view.astype(np.uint32) << 16).view(np.float32)
        return view

    def array(self) -> mx.array:
        """Return the values in MLX: the file's own where it can be mapped, see `safetensors_file.lazy`; else a copy."""
        if self.dtype in DTYPES and self.size and self.strides == _packed(self.shape):
            dtype = DTYPES[self.dtype]
            place = self.storage.start + self.offset * dtype.size, self.shape, dtype
            if (mapped := map_tensors(self.storage.path, {"": place})) is not None:
                return mapped[""]
        return mx.array(self.numpy())


def _packed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of an array without gaps."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def load(path: str | Path) -> Any:
    """Return the object in a torch checkpoint.

    Tensors are `Tensor`s; marks stand for everything that isn't plain data.

    Raises UserError (one line) when the file is not such a checkpoint, is damaged, or refers to things that only an
    attack would put there.
    """
    path = Path(path)
    try:
        return _Archive(path).read()
    except MalformedPickleError as e:
        raise UserError(f"refusing the checkpoint {path}: {e}; {e.fix}") from e
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as e:
        if isinstance(e, OSError):
            problem = f"{e.strerror or e}; give a file that can be read"
        else:
            problem = f"{e}; get a whole copy"
        raise UserError(f"cannot read the checkpoint {path}: {_legacy(path) or problem}") from e


def tensors(tree: Any, path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict by name; modules may have left other things among them.

    Raises UserError if there are none.
    """
    entries = tree.items() if isinstance(tree, dict) else ()
    found = {name: value for name, value in entries if isinstance(name, str) and isinstance(value, Tensor)}
    if not found:
        raise UserError(f"{path} holds no state dict where one is expected; give a checkpoint that has one")
    return found


class _Archive:
    """The zip, with every entry checked to lie inside the file as stored (not compressed) bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file_size = file_size(path)
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            pickles = [n for n in names if n.endswith("/data.pkl") and n.count("/") == 1]
            if len(pickles) != 1 or len(set(names)) != len(names):
                raise MalformedPickleError("it is a zip, but not one that torch.save writes (data.pkl)", SAVE)
            self.root = pickles[0].removesuffix("data.pkl")
            if self.root + "constants.pkl" in names:
                raise MalformedPickleError("it is a TorchScript archive", SAVE)
            self.entries = {info.filename: info for info in infos}
            self.starts: dict[str, int] = {}
            for info in infos:
                plain = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
                if not plain or info.flag_bits & 1:
                    raise MalformedPickleError(f"its entry {info.filename!r:.80} is compressed", SAVE)
                self.starts[info.filename] = self._start(file, info)
            self.pickle = self._bytes(file, pickles[0], MAX_PICKLE)
            order = self.root + "byteorder"
            if order in names and self._bytes(file, order, 16).strip() != b"little":
                raise MalformedPickleError("it was written on a big-endian machine", "save it on a little-endian one")

    def _start(self, file: Any, info: zipfile.ZipInfo) -> int:
        """Return the first byte of an entry's data: behind the local header, whose length varies."""
        file.seek(info.header_offset)
        header = file.read(30)
        if len(header) != 30 or header[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile(f"it is damaged, without a local header for {info.filename!r}")
        name_length, extra_length = struct.unpack("<HH", header[26:])
        start = int(info.header_offset + 30 + name_length + extra_length)
        if start + info.file_size > self.file_size:
            raise zipfile.BadZipFile(f"{info.filename!r} goes past the end of the file")
        return start

    def _bytes(self, file: Any, name: str, limit: int) -> bytes:
        size = self.entries[name].file_size
        if size > limit:
            raise MalformedPickleError(f"its entry {name!r} has {size} bytes; at most {limit} are expected", SAVE)
        file.seek(self.starts[name])
        data: bytes = file.read(size)
        return data

    def read(self) -> Any:
        return interpret(self.pickle, persistent=self._storage, reduce=self._reduce)

    def _storage(self, pid: Any) -> Storage:
        """Return the `('storage', type, key, location, count)` by which torch's pickles name a storage."""
        match pid:
            case ("storage", Symbol(module="torch" | "torch.storage", name=kind), str(key), _, int(count)):
                if kind not in STORED:
                    raise MalformedPickleError(f"a storage of type {kind!r:.40}", f"use one of {', '.join(STORED)}")
            case _:
                raise MalformedPickleError(f"a persistent id that is not a storage: {_short(pid)}")
        entry = self.entries.get(f"{self.root}data/{key}")
        dtype = STORED[kind]
        if entry is None:
            raise MalformedPickleError(f"its storage {key!r} is missing")
        if not 0 <= count * _numpy_dtype(dtype).itemsize <= entry.file_size:
            raise MalformedPickleError(f"its storage {key!r:.40} holds {entry.file_size} bytes, not {count} x {dtype}")
        return Storage(self.path, self.starts[entry.filename], entry.file_size, dtype)

    def _reduce(self, symbol: Symbol, args: tuple[Any, ...]) -> Any:
        """Return what the few functions that build tensors and dictionaries would return; a mark for any other."""
        match symbol.qualified, args:
            case "collections.OrderedDict", ():
                return {}
            case "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", (storage, at, shape, strides, *_):
                return self._tensor(storage, None, at, shape, strides)
            case "torch._utils._rebuild_tensor_v3", (storage, at, shape, strides, _, _, Symbol() as dtype, *_):
                return self._tensor(storage, dtype, at, shape, strides)
            case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", (Tensor() as t, *_):
                return t
        return Placeholder(symbol.qualified)

    def _tensor(self, storage: Any, dtype: Symbol | None, offset: Any, shape: Any, strides: Any) -> Tensor:
        if not isinstance(storage, Storage):
            raise MalformedPickleError("a tensor without a storage")
        kind = storage.dtype
        if dtype is not None:
            if dtype.module != "torch" or dtype.name not in TORCH_DTYPES:
                known = ", ".join(sorted(TORCH_DTYPES))
                raise MalformedPickleError(f"a tensor of unknown dtype {dtype.qualified}", f"use one of {known}")
            kind = ALIASES.get(dtype.name, dtype.name)
        if not (_naturals((offset,)) and _naturals(shape) and _naturals(strides) and len(shape) == len(strides)):
            where = f"shape {_short(shape)}, strides {_short(strides)} at {_short(offset)}"
            raise MalformedPickleError(f"a tensor of {where}")
        item = _numpy_dtype(kind).itemsize
        empty = 0 in shape
        last = offset + (0 if empty else sum((n - 1) * s for n, s in zip(shape, strides)))
        # A stride of 0 lets a few bytes claim any size, so the size itself is held to what the file holds.
        fits = (last + 1) * item <= storage.nbytes and math.prod(shape) * item <= self.file_size
        if len(shape) > 32 or not (empty or fits):
            raise MalformedPickleError(
                f"a tensor of shape {_short(shape)}, strides {_short(strides)}, offset {offset} needs more than its "
                f"storage of {storage.nbytes} bytes"
            )
        return Tensor(storage, kind, offset, tuple(shape), tuple(strides))


def _naturals(values: Any) -> bool:
    return isinstance(values, tuple | list) and all(type(v) is int and 0 <= v < 1 << 62 for v in values)


def _numpy_dtype(name: str) -> np.dtype[Any]:
    return np.dtype("<u2" if name == "bfloat16" else np.dtype(name).newbyteorder("<"))


def _short(value: Any) -> str:
    if isinstance(value, tuple | list) and all(isinstance(v, int | str) for v in value):
        return repr(value[:8]).replace("\n", " ")[:120]
    return repr(value)[:120] if isinstance(value, int | str | Symbol | Placeholder) else type(value).__name__


def _legacy(path: Path) -> str | None:
    """Say why a file is not a zip, if that can be told."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            start = file.read(len(LEGACY_MAGIC))
            size = path.stat().st_size
    except OSError:
        return None
    if start == LEGACY_MAGIC:
        return "it is in torch's format from before 1.6; load and save it once with a newer torch"
    if start.startswith(b"version https:"):
        return "it is a Git LFS pointer, not the file; fetch it with git lfs pull"
    if not start.startswith(b"PK"):
        return "it is not a torch checkpoint (a zip file); get a whole copy"
    return f"its zip directory is missing, with {size} bytes it is probably truncated; get a whole copy"
