"""Golden A converted once a session, at each precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model.convert import convert

GOLDEN = Path(__file__).parents[1] / "golden" / "A"


@pytest.fixture(scope="session")
def golden_bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """bits -> the bundle of golden A converted with them (once)."""
    folder = tmp_path_factory.mktemp("golden")

    def bundle(bits: int) -> Path:
        out = folder / str(bits)
        if not out.exists():
            convert(adapter=GOLDEN / "upstream.ckpt", base=GOLDEN / "base", t5=GOLDEN / "t5", out=out, bits=bits)
        return out

    return bundle


@pytest.fixture(scope="session")
def golden_bundle(golden_bundles: Callable[[int], Path]) -> Path:
    """Golden A at 32 bits: lossless."""
    return golden_bundles(32)
