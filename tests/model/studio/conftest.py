"""One studio for a module's tests, with the golden model: small, and edited by all the code there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model import InstructMusicGen
from tests import backends

from .running import Running, running

BACKEND = "native" if "native" in backends.names() else "reference"


@pytest.fixture(scope="session")
def tiny(golden_bundles: Callable[[int], Path]) -> Path:
    return golden_bundles(4)


@pytest.fixture(scope="session")
def model(tiny: Path) -> InstructMusicGen:
    """The model that the studio serves, to compare with."""
    return InstructMusicGen.from_pretrained(tiny, backend=BACKEND)


@pytest.fixture(scope="module")
def studio(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny, tmp_path_factory.mktemp("studio"), backend=BACKEND) as found:
        yield found
