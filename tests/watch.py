"""What a worker of pytest-xdist was doing when a test of it hung: every thread's place, in Python and in the system.

Each worker notes in a file which test it runs. The main process looks at these files; where a test goes on for too long
it collects what can be told from outside, ends the worker, and repeats all of it in the suite's last lines. The test
counts as failed.
"""

from __future__ import annotations

import faulthandler
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

import psutil
import pytest

SECONDS = 420.0
"""More than any test takes on a busy machine; below pytest's own limit (pyproject.toml), which tells less."""
FOLDER = "INSTRUCT_MUSICGEN_TESTS_WATCH"
"""The variable that tells workers where to note what they run."""
_LOOK = 5.0


class Worker:
    """Tells which test this worker runs, and answers SIGUSR1 with the places of its Python threads."""

    def __init__(self, folder: Path, name: str) -> None:
        self.note = folder / name
        self.places: IO[str] = (folder / f"{name}.places").open("w")
        faulthandler.register(signal.SIGUSR1, file=self.places, all_threads=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note the test that begins."""
        self.note.write_text(f"{os.getpid()}\n{nodeid}\n")

    def pytest_runtest_logfinish(self) -> None:
        """Note that it is over."""
        self.note.unlink(missing_ok=True)


class Watch:
    """Ends workers whose test goes on for too long. Runs in the main process."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds, self.told = folder, seconds, list[str]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(min(_LOOK, self.seconds / 4)):
            for note in self.folder.glob("gw*"):
                try:
                    began = note.stat().st_mtime_ns
                    if not note.suffix and time.time() - began / 1e9 > self.seconds:
                        self._end(note, began)
                except (OSError, ValueError):  # the test has just ended, or the next one just begins
                    continue

    def _end(self, note: Path, began: int) -> None:
        """End the worker whose note is of `began`, unless its test ends while that is looked at."""
        pid, test = note.read_text().splitlines()
        if not _is_worker(int(pid)):  # it crashed, and left its note
            return note.unlink()
        try:
            places = _places(int(pid), note)
        except (OSError, ValueError) as e:
            places = f"where it stood cannot be told: {e}"
        if note.stat().st_mtime_ns != began or note.read_text() != f"{pid}\n{test}\n":
            return
        os.kill(int(pid), signal.SIGKILL)
        note.unlink()
        self.told.append(f"{test} went on for more than {self.seconds:.0f} s\n{places}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Repeat what was found."""
        for text in self.told:
            terminalreporter.section("a test that hung")
            terminalreporter.write_line(text)

    def pytest_unconfigure(self) -> None:
        """Stop looking."""
        self._over.set()
        self._thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)


def register(config: pytest.Config) -> None:
    """Watch this run, where it has workers."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        if folder := os.environ.get(FOLDER):
            config.pluginmanager.register(Worker(Path(folder), worker))
    elif config.getoption("numprocesses", None):
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="tests-watch-")
        config.pluginmanager.register(Watch(Path(os.environ[FOLDER]), SECONDS))


def _is_worker(pid: int) -> bool:
    """Whether the number is still that of a process which this one started: the system gives it to others later."""
    try:
        return psutil.Process(pid).ppid() == os.getpid()
    except psutil.Error:
        return False


def _places(pid: int, note: Path) -> str:
    """Tell where a process stands: its Python threads, the system's view of each thread, and gdb's where it is here."""
    os.kill(pid, signal.SIGUSR1)
    time.sleep(1)
    places = note.with_suffix(".places").read_text(errors="replace").splitlines()
    found = [line for line in places if "site-packages" not in line and line.strip()]
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        stat = _read(task / "stat").rpartition(")")[2].split()
        state, ticks = (stat[0], f"{stat[11]}+{stat[12]}") if len(stat) > 12 else ("?", "?")
        found.append(f"thread {task.name}: {_read(task / 'comm')}, {state}, {ticks} ticks, in {_read(task / 'wchan')}")
    if gdb := shutil.which("gdb"):
        command = [gdb, "-p", str(pid), "-batch", "-nx", "-ex", "thread apply all backtrace 40"]
        try:
            run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
            found.append(_calls(run.stdout))
        except subprocess.TimeoutExpired:
            found.append("gdb did not answer")
    return "\n".join(found)


def _calls(trace: str) -> str:
    """Shorten gdb's answer to a line a thread: the functions, the innermost first, without Python's own."""
    lines: list[str] = []
    own = re.compile(r"^_?Py|_Py|vectorcall|^(cfunction|slot_tp|do_call|type_call)")
    for line in trace.splitlines():
        frame = re.match(r"#\d+ +(?:0x[0-9a-f]+ in )?(.+?) \(", line)
        if line.startswith("Thread "):
            lines.append(line.split(" (LWP ")[-1].split(")")[0] + ":")
        elif lines and frame and not own.search(frame[1]):
            lines[-1] += f" < {frame[1][:70]}"
    return "\n".join(lines)


def _read(path: Path) -> str:
    try:
        return " ".join(path.read_text().split())
    except OSError as e:
        return str(e.strerror)
