"""A test that hangs is ended, and the suite's last lines tell where it stood."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from . import watch

ROOT = Path(__file__).parents[1]
CONFTEST = "from tests import watch\nwatch.SECONDS = 3.0\n"
HANGS = """
import time

def wait_for_nothing():
    time.sleep(1000)

def test_that_hangs():
    wait_for_nothing()

def test_that_passes():
    assert True
"""


@pytest.mark.slow
def test_a_test_that_hangs_is_told_and_the_others_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST + "pytest_configure = watch.register\n")
    (tmp_path / "test_it.py").write_text(HANGS)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:cacheprovider", "-c", "/dev/null"]
    # Not a worker of the suite that runs this.
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", watch.FOLDER))}
    ran = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)], cwd=ROOT, env=own, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout
    assert "test_it.py::test_that_hangs went on for more than 3 s" in ran.stdout
    assert "in wait_for_nothing" in ran.stdout and ": python" in ran.stdout
    assert "1 failed, 1 passed" in ran.stdout


Worker = tuple[subprocess.Popen[bytes], Path]
WORKER = "import signal, time; signal.signal(signal.SIGUSR1, signal.SIG_IGN); print(flush=True); time.sleep(1000)"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """A process that does nothing for long, and its note that it runs a test."""
    with subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        (tmp_path / "notes").mkdir()
        note = tmp_path / "notes" / "gw0"
        note.with_suffix(".places").touch()
        note.write_text(f"{process.pid}\ntest_it.py::test_late\n")
        yield process, note
        process.kill()


def watched(note: Path, until: Callable[[watch.Watch], Any]) -> list[str]:
    """Return what a watch of a fifth of a second tells until something is true."""
    looking = watch.Watch(note.parent, 0.2)
    end = time.monotonic() + 60
    while not until(looking):
        assert time.monotonic() < end
        time.sleep(0.01)
    looking.pytest_unconfigure()
    return looking.told


@pytest.mark.parametrize("after", ("nothing", "another test", "the same test again"))
def test_a_test_that_ends_while_it_is_looked_at_is_left_alone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    process, note = worker
    looked: list[int] = []

    def places(pid: int, note: Path) -> str:
        text = note.read_text()
        note.unlink()
        if after != "nothing":
            note.write_text(text if after == "the same test again" else f"{pid}\ntest_it.py::test_next\n")
            later = time.time() + 1000  # so that it is not late itself
            os.utime(note, (later, later))
        looked.append(pid)
        return ""

    monkeypatch.setattr(watch, "_places", places)
    assert watched(note, lambda _: looked) == []
    assert looked == [process.pid] and process.poll() is None


@pytest.mark.parametrize("error", (OSError("gone"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")))
def test_a_worker_whose_places_cannot_be_told_is_ended(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    process, note = worker

    def places(*_: Any) -> str:
        raise error

    monkeypatch.setattr(watch, "_places", places)
    (told,) = watched(note, lambda looking: looking.told)
    assert "test_late went on" in told and str(error) in told
    assert process.wait(10) < 0


def test_what_gdb_says_need_not_be_text(worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process, note = worker
    gdb = tmp_path / "gdb"
    gdb.write_text("#!/bin/sh\nprintf 'Thread 1 (LWP 7):\\n#0  0x1 in na\\377me (x=1)\\n'\n")
    gdb.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (told,) = watched(note, lambda looking: looking.told)
    assert "7: < na\ufffdme" in told
    assert process.wait(10) < 0


def test_a_process_that_has_the_number_of_a_worker_which_crashed_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    note = tmp_path / "notes" / "gw0"
    with subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        other = int(parent.stdout.readline())
        note.write_text(f"{other}\ntest_it.py::test_late\n")
        try:
            assert watched(note, lambda _: not note.exists()) == []
            assert psutil.Process(other).status() != psutil.STATUS_ZOMBIE
        finally:
            parent.kill()
            psutil.Process(other).kill()
