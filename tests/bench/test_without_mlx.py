"""Saved results are read and compared where MLX cannot be imported, as in a CI job without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "bench" / "results").glob("*.json"))
EDITS = [path for path in RESULTS if "-edit-" in path.name]
EDIT = next(path for path in EDITS if "-edit-large-" in path.name)  # long enough that no stage is noise

BLOCKED = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mlx", "kernels", "reference", "transformers", "torch"):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Blocked())
from bench import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_blocked_python_really_has_no_mlx() -> None:
    done = run("kernels", "--quick")
    assert done.returncode != 0 and "kernels is not here" in done.stderr


def test_compare() -> None:
    done = run("compare", EDIT, EDIT)
    assert done.returncode == 0 and "no difference" in done.stdout and done.stderr == "", done.stderr


def test_report_prints_the_tables_of_every_saved_result() -> None:
    assert RESULTS
    done = run("report", "--no-plots", *RESULTS)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "| whole edit |" in done.stdout and "### peers: " in done.stdout


def test_report_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run("report", "-o", tmp_path, *RESULTS)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    two_each, roofline = 2 * len(EDITS), 1
    assert len(list(tmp_path.glob("*.png"))) == two_each + roofline and (tmp_path / "report.md").is_file()


def test_a_damaged_result_is_still_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(EDIT.read_text().replace('"seconds": {', '"seconds": {"other": -1.0, ', 1))
    done = run("compare", EDIT, path)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {path} is ") and done.stderr.count("\n") == 1
