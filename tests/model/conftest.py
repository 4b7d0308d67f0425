"""Golden configurations, converted once a session at each precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model.convert import convert
from tests.oracle import golden_folder

from .golden import FOLDERS, A, Golden

GOLDEN = A.folder
Converted = Callable[[Golden, int], Path]


@pytest.fixture(scope="session", params=[*(f.name for f in FOLDERS), "oracle-B"])
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Each folder of tests/golden, and a configuration like B that the float64 oracle makes here."""
    if request.param == "oracle-B":
        return Golden(golden_folder.write(golden_folder.B, tmp_path_factory.mktemp("oracle") / request.param))
    return Golden(GOLDEN.parent / request.param)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """(golden, bits) -> the bundle converted with them, once."""
    folder = tmp_path_factory.mktemp("golden")

    def bundle(golden: Golden, bits: int) -> Path:
        out = folder / f"{golden.folder.name}-{bits}"
        if not out.exists():
            convert(**golden.upstream, out=out, bits=bits)
        return out

    return bundle


@pytest.fixture(scope="session")
def golden_bundles(converted: Converted) -> Callable[[int], Path]:
    """bits -> the bundle of golden A converted with them."""
    return lambda bits: converted(A, bits)


@pytest.fixture(scope="session")
def golden_bundle(golden_bundles: Callable[[int], Path]) -> Path:
    """Golden A at 32 bits: lossless."""
    return golden_bundles(32)
