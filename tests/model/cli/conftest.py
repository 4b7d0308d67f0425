"""The command line run in this process, a bundle made by it, and clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from model.cli import main

GOLDEN = Path(__file__).parents[2] / "golden" / "A"
TEXT = "Music piece. Instruct: Only vocals."


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def fails(self, code: int, *fragments: str) -> None:
        """The exit code, and one line on stderr that begins with `error: ` and holds every fragment."""
        assert self.code == code, self
        assert self.err.startswith("error: ") and self.err.count("\n") == 1 and self.err.endswith("\n"), self
        for fragment in fragments:
            assert fragment in self.err, self
        assert self.out == ""


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """main(argv) with what reached stdout and stderr; no hub is asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*argv: str | Path) -> Result:
        capfd.readouterr()
        code = main([str(a) for a in argv])
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden A, converted by the command line at 32 bits."""
    out = tmp_path_factory.mktemp("cli") / "bundle"
    argv = ["--adapter", GOLDEN / "upstream.ckpt", "--base", GOLDEN / "base", "--t5", GOLDEN / "t5", "--out", out]
    assert main(["convert", *map(str, argv), "--bits", "32"]) == 0
    return out


@pytest.fixture(scope="session")
def chain() -> dict[str, np.ndarray]:
    """Upstream's own edit, from audio to audio."""
    loaded = mx.load(str(GOLDEN / "chain.safetensors"))
    assert isinstance(loaded, dict)
    return {name: np.array(value) for name, value in loaded.items()}


@pytest.fixture
def clip(tmp_path: Path, chain: dict[str, np.ndarray]) -> Path:
    """A third of a second at 32 kHz mono."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, chain["short.audio"].ravel(), 32_000, subtype="FLOAT")
    return path
