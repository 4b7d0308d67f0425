"""The synthetic bundles of `--size`: made once, under a bar, where the user says; whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import cli
from bench.peers import command as peers
from bench.sizes import bundles as sizes
from model.system.cache import cache

from ..conftest import full_disk

pytestmark = pytest.mark.usefixtures("cache")


def test_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    sizes.bundle("tiny", 8)
    assert cli.main(["sizes"]) == 0 and "tiny-8bit" in capsys.readouterr().out
    assert cli.main(["sizes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == sizes.stored() and sizes.stored()["tiny-8bit"] > 1e6
    assert cli.main(["sizes", "--remove", "nope"]) == 2
    assert cli.main(["sizes", "--remove", "all"]) == 0
    assert sizes.stored() == {}


def test_a_size_is_made_once_under_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INSTRUCT_MUSICGEN_CACHE", str(tmp_path))
    seen = []

    @contextlib.contextmanager
    def written(what: Any) -> Any:
        yield lambda done, total: seen.append(done / total)

    monkeypatch.setattr("model.progress.byte_progress", written)
    assert sizes.bundle("tiny", 16) == tmp_path / "sizes" / "tiny-16bit"
    assert seen == sorted(seen) and len(set(seen)) > 100 and seen[-1] == 1
    message = f"making the tiny bundle at 16 bits in {tmp_path / 'sizes' / 'tiny-16bit'} (once)\n"
    assert capsys.readouterr().err == message
    sizes.bundle("tiny", 16)
    assert seen.count(1) == 1 and capsys.readouterr().err == ""


@pytest.mark.slow
def test_relative_places_are_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns' processes run elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSTRUCT_MUSICGEN_CACHE", "cache")
    assert cache() == tmp_path / "cache"
    command = ["--size", "tiny", "--bits", "8", "--columns", "reference", "--seconds", "0.1", "--repeat", "1"]
    assert cli.main([*command, "--steps", "1", "--save", "r.json"]) == 0
    assert (tmp_path / "cache" / "sizes" / "tiny-8bit").is_dir() and (tmp_path / "r.json").is_file()
    (tmp_path / "python").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "python").chmod(0o755)
    assert peers.torch_python("./python") == (str(tmp_path / "python"), "")


def test_an_interrupt_while_a_size_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INSTRUCT_MUSICGEN_CACHE", str(tmp_path))

    @contextlib.contextmanager
    def written(what: Any) -> Any:
        def moved(done: Any, total: Any) -> None:
            if 2 * done > total:
                raise KeyboardInterrupt

        yield moved

    monkeypatch.setattr("model.progress.byte_progress", written)
    assert cli.main(["--size", "tiny", "--bits", "8", "--columns", "reference"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "error: interrupted; no result was saved"
    assert not [p for p in tmp_path.rglob("*") if p.is_file()] and sizes.stored() == {}


def test_a_full_disk_while_a_size_is_made_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", "--size", "tiny", "--bits", "8", "--columns", "reference"],
        capture_output=True,
        text=True,
        preexec_fn=full_disk,
        env=os.environ | {"INSTRUCT_MUSICGEN_CACHE": str(tmp_path)},
    )
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and said.startswith("error: the disk is full") and "INSTRUCT_MUSICGEN_CACHE" in said
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_cache_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("INSTRUCT_MUSICGEN_CACHE", str(tmp_path / "file"))
    assert cli.main(["--size", "tiny", "--bits", "8"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: cannot write")
    assert error.endswith("set INSTRUCT_MUSICGEN_CACHE to a folder elsewhere")
