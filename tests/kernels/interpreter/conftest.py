"""Kernels of a few lines, under each compiler that is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest

from kernels.interpreter import compilers
from kernels.interpreter.kernel import MetalKernel

LANES = np.arange(32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here as slow: nearly every test compiles a kernel, some under an emulator."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=compilers(), ids=lambda c: c.family)
def using(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    """A test's own, so that what it draws doesn't hang on which tests ran before it in this process."""
    return np.random.default_rng(0)


@pytest.fixture(params=compilers(), ids=lambda c: c.family)
def run(request: pytest.FixtureRequest) -> Any:
    """run(source, outputs as (shape, dtype), threads, inputs by name, ...) -> list of mx.array"""

    def call(
        source: str, outputs: list[tuple[tuple[int, ...], Any]], threads: int = 32, check: bool = True, **inputs: Any
    ) -> list[mx.array]:
        names = ["out", "out2", "out3"][: len(outputs)]
        arrays = {k: v if isinstance(v, mx.array) else mx.array(v) for k, v in inputs.items()}
        kernel = MetalKernel(
            "shim", list(arrays), names, "uint i = thread_position_in_grid.x;\n" + source, using=request.param
        )
        return kernel(
            inputs=list(arrays.values()),
            grid=(threads, 1, 1),
            threadgroup=(min(threads, 256), 1, 1),
            check=check,
            output_shapes=[s for s, _ in outputs],
            output_dtypes=[d for _, d in outputs],
        )

    return call


def same(a: mx.array, b: npt.ArrayLike) -> None:
    assert np.array_equal(np.array(a), np.asarray(b), equal_nan=True), (np.array(a), b)
