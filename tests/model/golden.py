"""Folders of golden vectors, and how closely a float32 implementation must meet them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[1] / "golden").glob("*/config.json"))
"""Every configuration that is there: a folder put beside A is tested as A is."""

RELATIVE = 100 * 2.0**-24 * 16
"""Two correct float32 evaluations differ by each sum's rounding, eps · sqrt(K) with K up to 256, through the hundred or
so sums that lie between a network's input and its output: 9.5e-5 of the tensor's largest magnitude."""


class Golden:
    """One folder of golden vectors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = self.json("config")
        self.texts: list[str] = self.config["texts"]

    def json(self, name: str) -> dict[str, Any]:
        loaded = json.loads((self.folder / f"{name}.json").read_text())
        assert isinstance(loaded, dict)
        return loaded

    def tensors(self, name: str) -> dict[str, mx.array]:
        loaded = mx.load(str(self.folder / f"{name}.safetensors"))
        assert isinstance(loaded, dict)
        return loaded

    @property
    def upstream(self) -> dict[str, Path]:
        """The upstream files, as `convert` names them."""
        return {"adapter": self.folder / "upstream.ckpt", "base": self.folder / "base", "t5": self.folder / "t5"}


A = Golden(FOLDERS[0])
CONFIG, TEXTS, tensors = A.config, A.texts, A.tensors
"""Of the first folder: what tests use that are not about upstream's numbers."""


def assert_close(got: mx.array, want: mx.array, what: str = "") -> None:
    g, w = np.asarray(got.astype(mx.float32)), np.asarray(want)
    assert g.shape == w.shape, f"{what}: shape {g.shape}, golden {w.shape}"
    assert np.isfinite(g).all(), f"{what}: not finite"
    error, scale = np.abs(g - w).max(), np.abs(w).max()
    assert error <= RELATIVE * scale, f"{what}: off by {error:.3g} where {RELATIVE * scale:.3g} is rounding"


def assert_equal(got: mx.array, want: mx.array, what: str = "") -> None:
    g, w = np.asarray(got), np.asarray(want)
    assert g.shape == w.shape, f"{what}: shape {g.shape}, golden {w.shape}"
    assert (g == w).all(), f"{what}: {(g != w).sum()} of {g.size} integers differ"


@contextmanager
def recording(ops: object, *names: str) -> Iterator[list[tuple[str, tuple[Any, ...], dict[str, Any], mx.array]]]:
    """Note each call of the named operations, while the block runs: (name, positional, named, result)."""
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any], mx.array]] = []
    originals = {name: getattr(ops, name) for name in names}

    def noting(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            out = originals[name](*args, **kwargs)
            calls.append((name, args, kwargs, out))
            return out

        return call

    for name in names:
        setattr(ops, name, noting(name))
    try:
        yield calls
    finally:
        for name, original in originals.items():
            setattr(ops, name, original)
