"""`instruct-musicgen studio`: whatever is wrong at its start is one line."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from .conftest import BACKEND

ROOT = Path(__file__).parents[3]


def started(*arguments: str | Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    code = f"{before}\nimport sys\nfrom model.cli import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "studio", *arguments], capture_output=True, text=True, timeout=120, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def one_line(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    """Check the exit code, and that what went wrong is one line."""
    assert done.returncode == code and done.stdout == "", done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done
    assert all(each in done.stderr for each in said), done


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "python_multipart"])
def test_without_its_libraries_it_names_the_extra(module: str) -> None:
    hidden = f"""
import importlib.util as util
find = util.find_spec
util.find_spec = lambda name, *more: None if name == {module!r} else find(name, *more)
"""
    one_line(started(before=hidden), 2, module, "pip install 'instruct-musicgen-mlx[studio]'")


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ("--port", "0", "--data", tmp_path / "data")
    one_line(started("--model", tmp_path / "empty", *arguments), 1, "config.json")
    one_line(started("--model", tmp_path / "none", *arguments), 1, "none")
    (tmp_path / "file").write_text("")
    one_line(started("--model", tmp_path / "file", *arguments), 1, "is a file")


def test_a_port_that_is_taken_is_one_line(tiny: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = started("--model", tiny, "--backend", BACKEND, "--port", port, "--data", tmp_path)
    one_line(done, 1, f"port {port} is in use", "--port 0")


@pytest.mark.parametrize(("arguments", "said"), [
    (("--port", "70000"), "between 0 and 65535"), (("--token", "short"), "at least 16"),
    (("--token", "with spaces in between"), "letters, digits"), (("--backend", "cuda"), "--backend"),
    (("--host", "no.such.host.invalid", "--port", "0"), "cannot be listened at"),
])  # fmt: skip
def test_a_value_that_cannot_be_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = started(*arguments)
    assert done.returncode in (1, 2)
    one_line(done, done.returncode, said)


def test_a_folder_that_cannot_be_written_is_one_line(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = started("--model", tiny, "--backend", BACKEND, "--port", "0", "--data", tmp_path / "file" / "data")
    one_line(done, 1, "choose another --data")


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
