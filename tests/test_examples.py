"""The examples run as their first lines say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.*"))


def run(*command: str | Path, cwd: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_by_a_test_here() -> None:
    text = Path(__file__).read_text()
    assert EXAMPLES and all(f'"{path.name}"' in text for path in EXAMPLES)


def test_a_clip_is_edited_from_python(tmp_path: Path) -> None:
    said = run(sys.executable, ROOT / "examples" / "edit_a_clip.py", cwd=tmp_path)
    samples, rate = soundfile.read(tmp_path / "edited.wav")
    assert said.startswith("edited.wav: 5.0 s") and (len(samples), rate) == (5 * 32_000, 32_000)


@pytest.mark.backend("interpreter")
def test_a_kernel_is_checked_without_a_mac(tmp_path: Path) -> None:
    file = ROOT / "examples" / "check_a_kernel.metal"
    assert run(sys.executable, "-m", "kernels.interpreter", "check", file, cwd=tmp_path)
    broken = tmp_path / "broken.metal"
    broken.write_text(file.read_text().replace("i < a_shape[1]", "i <= a_shape[1]"))
    done = subprocess.run(
        [sys.executable, "-m", "kernels.interpreter", "check", broken], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1 and "out-of-bounds" in done.stdout + done.stderr
