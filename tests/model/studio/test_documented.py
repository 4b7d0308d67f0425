"""The curl lines of docs/studio.md, run as they stand there."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from .conftest import BACKEND
from .running import Running, running, samples, wav

TEXT = (Path(__file__).parents[3] / "docs" / "studio.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)


def shell(studio: Running, lines: str, folder: Path) -> str:
    """Run lines where song.wav is, sent to this studio."""
    script = (
        lines.replace("http://127.0.0.1:7860", studio.url).replace("curl -f", "curl -sf").replace("curl -F", "curl -sF")
    )
    done = subprocess.run(
        ["bash", "-euc", f"URL={studio.url}\n{script}"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_line_of_the_documentation_does_what_it_says(studio: Running, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(wav(0.5, 44_100, 2))
    blocks = [block for block in BLOCKS if "curl" in block and "instruct-musicgen" not in block]
    assert sum(block.count("curl") for block in blocks) >= 18
    said = "".join(shell(studio, block, tmp_path) for block in blocks)

    def made(name: str) -> bytes:
        return (tmp_path / name).read_bytes()

    for name in ("drums.wav", "no-bass.flac", "piano.wav", "1.wav", "2.flac"):
        assert len(samples(made(name))) == 16_000 and np.abs(samples(made(name))).max() > 0, name
    assert made("live.f32") == samples(made("1.wav")).astype("<f4").tobytes()
    assert zipfile.ZipFile(io.BytesIO(made("drums.zip"))).namelist() == ["input.wav", "1.wav", "2.wav", "edits.json"]
    assert zipfile.ZipFile(io.BytesIO(made("files.zip"))).read("1.wav") == made("1.wav")
    assert len(json.loads(made("drums.json"))["data"]) == 2
    parts = json.loads(made("separated.json"))
    total = samples(base64.b64decode(parts["target"])) + samples(base64.b64decode(parts["residual"]))
    assert np.abs(total - samples(made("song.wav"))).max() < 1e-6 and total.shape == (22_050, 2)
    assert '"No"' in said and "event: job" in said and "'x' is not a whole number" in said


def test_the_token_is_sent_as_documented(tiny: Path, tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if "Bearer" in block]
    (token,) = re.findall(r"--token (\S+)", block)
    with running(tiny, tmp_path, token=token, backend=BACKEND) as studio:
        assert '"object":"list"' in shell(studio, block.splitlines()[1], tmp_path)


def test_every_option_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    from model.cli import main

    with pytest.raises(SystemExit):
        main(["studio", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert options and all(f"`{option}" in TEXT for option in options)
