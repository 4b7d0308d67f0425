"""What is left running by one folder's tests is told there, not where another test stumbles over it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FIXTURE = """
import asyncio
import pytest

@pytest.fixture(scope="{scope}", autouse=True)
def loop():
    loop = asyncio.new_event_loop()
    asyncio._set_running_loop(loop)  # as a synchronous Playwright does
    yield
    asyncio._set_running_loop(None)
    loop.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("scope", "fails"), [("session", True), ("package", False)])
def test_a_loop_that_outlives_its_folder_fails_there_and_nowhere_else(tmp_path: Path, scope: str, fails: bool) -> None:
    for folder, content in {"a": "pass", "b": "asyncio.run(asyncio.sleep(0))"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        names = ("first", "last") if folder == "a" else ("other",)
        tests = "".join(f"def test_{name}():\n    {content}\n" for name in names)
        (tmp_path / folder / f"test_{folder}.py").write_text(f"import asyncio\n{tests}")
    (tmp_path / "a" / "conftest.py").write_text(FIXTURE.format(scope=scope))
    command = [sys.executable, "-m", "pytest", "-q", "-rE", "-p", "tests.loops", "-p", "no:cacheprovider", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    blamed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    assert blamed == (["a/test_a.py::test_last"] if fails else []), done.stdout
    assert ("an event loop still runs after the last test of" in done.stdout) == fails
    assert done.returncode == (1 if fails else 0), done.stdout
