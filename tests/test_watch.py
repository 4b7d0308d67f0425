"""A test that hangs is ended, and the suite's last lines tell where it stood."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
