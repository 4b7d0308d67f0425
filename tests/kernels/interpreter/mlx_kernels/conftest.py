"""Where MLX's headers are."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels.beside_mlx.mlx_kernels import KERNELS

from . import wheel


@pytest.fixture(scope="session")
def folder() -> Path:
    """Where the headers are."""
    return KERNELS if wheel.fetch() else wheel.KEPT
