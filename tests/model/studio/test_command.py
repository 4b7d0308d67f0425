"""`instruct-musicgen studio`: whatever is wrong at its start is one line."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from model.cli import main
from model.studio.web import server

from .conftest import BACKEND

ROOT = Path(__file__).parents[3]


Started = Callable[..., tuple[int, str, str]]


@pytest.fixture
def started(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Started:
    """Run the command to its end, in this process: the exit code, and what it wrote to stdout and stderr."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["studio", *map(str, arguments)])
        return code, *capfd.readouterr()

    return run


def one_line(done: tuple[int, str, str], code: int, *said: str) -> None:
    """Check the exit code, and that what went wrong is one line."""
    assert done[:2] == (code, ""), done
    assert done[2].startswith("error: ") and done[2].count("\n") == 1, done
    assert all(each in done[2] for each in said), done


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "python_multipart"])
def test_without_its_libraries_it_names_the_extra(
    started: Started, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == module else find(name, *more))
    one_line(started(), 2, module, "pip install 'instruct-musicgen-mlx[studio]'")


def test_a_model_that_is_not_there_is_one_line(started: Started, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ("--port", "0", "--data", tmp_path / "data")
    one_line(started("--model", tmp_path / "empty", *arguments), 1, "config.json")
    one_line(started("--model", tmp_path / "none", *arguments), 1, "none")
    (tmp_path / "file").write_text("")
    one_line(started("--model", tmp_path / "file", *arguments), 1, "is a file")


def test_a_port_that_is_taken_is_one_line(started: Started, tiny: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = started("--model", tiny, "--backend", BACKEND, "--port", port, "--data", tmp_path)
    one_line(done, 1, f"port {port} is in use", "--port 0")


@pytest.mark.parametrize(("arguments", "said"), [
    (("--port", "70000"), "between 0 and 65535"), (("--token", "short"), "at least 16"),
    (("--token", "with spaces in between"), "letters, digits"), (("--backend", "cuda"), "--backend"),
    (("--host", "no.such.host.invalid", "--port", "0"), "cannot be listened at"),
])  # fmt: skip
def test_a_value_that_cannot_be_is_one_line(started: Started, arguments: tuple[str, ...], said: str) -> None:
    done = started(*arguments)
    assert done[0] in (1, 2)
    one_line(done, done[0], said)


def test_a_folder_that_cannot_be_written_is_one_line(started: Started, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = started("--model", tiny, "--backend", BACKEND, "--port", "0", "--data", tmp_path / "file" / "data")
    one_line(done, 1, "choose another --data")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_end_of_an_answer_does_not_wait_for_its_head_to_be_acknowledged(host: str) -> None:
    with server.listen(host, 0) as listening, socket.create_connection(listening.getsockname()[:2]):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.slow
def test_the_address_that_it_prints_is_its_own(tiny: Path, tmp_path: Path) -> None:
    arguments = f"--model {tiny} --backend {BACKEND} --host 127.0.0.2 --port 0 --data {tmp_path} --no-open".split()
    process = subprocess.Popen(
        [sys.executable, "-m", "model.cli", "studio", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.skip("this system has no 127.0.0.2")
        assert httpx.get(line.split()[1]).status_code == 200
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
def test_elsewhere_a_token_is_made_and_shown(tiny: Path, tmp_path: Path) -> None:
    arguments = f"--model {tiny} --backend {BACKEND} --host 0.0.0.0 --port 0 --data {tmp_path} --no-open".split()
    process = subprocess.Popen(
        [sys.executable, "-m", "model.cli", "studio", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert re.fullmatch(r"studio: http://\S+:\d+/#token=[\w-]{32}\n", process.stdout.readline())
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
