"""Seeded tensors by name, and files of them as torch writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model.synthetic.numbers import Random
from tests.model.formats import torch_pickles

from .numbers import Array

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "bfloat16": "BFloat16Storage"}


def spread_of(seed: int, what: str) -> Any:
    """spread(name, std, *shape) -> float32 of that standard deviation, the same on every machine."""

    def spread(name: str, std: float, *shape: int) -> Array:
        return Random(seed, f"{what} {name}").spread(std, shape)

    return spread


def save(path: Path, entry: str, state: dict[str, Array], dtypes: dict[str, str], extras: dict[str, Any]) -> None:
    views, storages = {}, {}
    for key, (name, value) in enumerate(state.items()):
        wide, dtype = np.ascontiguousarray(value, dtype=np.float32), dtypes[name]
        storages[str(key)] = _stored(wide, dtype)
        strides = tuple(s // 4 for s in wide.strides)
        storage = torch_pickles.Storage(STORAGES[dtype], str(key), wide.size)
        views[name] = torch_pickles.View(storage, 0, wide.shape, strides)
    torch_pickles.write(path, torch_pickles.dumps({entry: views, **extras}), storages)


def _stored(wide: Array, dtype: str) -> bytes:
    if dtype != "bfloat16":
        return wide.astype(dtype).tobytes()
    return (wide.view(np.uint32) >> 16).astype(np.uint16).tobytes()  # bfloat16 is float32's upper half
