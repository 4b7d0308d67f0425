"""The native backend with its settings put back after every test."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest

import kernels

from ... import backends


@pytest.fixture
def native() -> Iterator[ModuleType]:
    """kernels.native; where it must run, failing to load is an error and not a skip."""
    if "native" in backends.missing():
        pytest.skip(f"native: {backends.missing()['native']}")
    kernels.load("native")
    import kernels.native as backend

    yield backend
    backend.set_isa("auto")
    backend.set_threads(None)
    backend.set_activations("int16")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


class Packed:
    """A random packed matrix and its float64 self, unpacked here."""

    def __init__(self, rng: np.random.Generator, n: int, k: int, group: int = 64, bits: int = 4) -> None:
        dense = mx.array(rng.normal(size=(n, k)).astype(np.float32))
        self.w, self.scales, self.biases = mx.quantize(dense, group, bits)
        self.group, self.bits = group, bits
        words = np.array(self.w)
        fields = [(words >> (bits * i)) & (2**bits - 1) for i in range(32 // bits)]
        codes = np.stack(fields, axis=-1).reshape(n, k).astype(np.float64)
        scale, bias = (np.repeat(np.array(a).astype(np.float64), group, axis=1) for a in (self.scales, self.biases))
        self.dense = codes * scale + bias

    @property
    def args(self) -> tuple[mx.array, mx.array, mx.array]:
        return self.w, self.scales, self.biases


def relative_error(actual: mx.array, expected: np.ndarray) -> float:
    """The 2-norm of the error over that of the expected."""
    got = np.array(actual.astype(mx.float32)).astype(np.float64)
    assert got.shape == expected.shape
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
