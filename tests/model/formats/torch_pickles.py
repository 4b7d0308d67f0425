"""Checkpoints as torch.save writes them, from Python's own pickler: any protocol, any strides, any payload."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STORAGES = ("FloatStorage", "HalfStorage", "BFloat16Storage", "UntypedStorage")


class Storage:
    def __init__(self, kind: str, key: str, count: int) -> None:
        self.kind, self.key, self.count = kind, key, count


class View:
    """A tensor: a strided view of a storage, rebuilt by `_rebuild_tensor_v2` (or v3, when it names a dtype)."""

    def __init__(self, storage: Storage, offset: Any, shape: Any, strides: Any, dtype: str | None = None) -> None:
        self.storage, self.offset, self.shape, self.strides, self.dtype = storage, offset, shape, strides, dtype


@contextmanager
def fake_torch() -> Iterator[types.ModuleType]:
    """A `torch` that pickle can refer to by name."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES:
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    for name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"):
        exec(f"def {name}(*args): raise AssertionError", vars(utils))
        getattr(utils, name).__module__ = "torch._utils"
    # A dtype is pickled by a reduction to its name; as a class it comes out as the same GLOBAL.
    for name in ("float32", "bfloat16", "int64"):
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    saved = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in saved.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def dumps(tree: Any, protocol: int = 2) -> bytes:
    with fake_torch() as torch:

        class Pickler(pickle.Pickler):
            def persistent_id(self, value: Any) -> Any:
                if isinstance(value, Storage):
                    return ("storage", getattr(torch, value.kind), value.key, "cpu", value.count)
                return None

            def reducer_override(self, value: Any) -> Any:
                if not isinstance(value, View):
                    return NotImplemented
                utils = sys.modules["torch._utils"]
                args: tuple[Any, ...] = (value.storage, value.offset, value.shape, value.strides, False, OrderedDict())
                if value.dtype:
                    return utils._rebuild_tensor_v3, (*args, getattr(torch, value.dtype))
                return utils._rebuild_tensor_v2, args

        out = io.BytesIO()
        Pickler(out, protocol).dump(tree)
    return out.getvalue()


def write(
    path: Path, data: bytes, storages: dict[str, bytes] | None = None, *, byteorder: str = "little",
    compression: int = zipfile.ZIP_STORED,
) -> Path:  # fmt: skip
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", byteorder)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")
    return path
