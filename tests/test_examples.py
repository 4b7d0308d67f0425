"""The examples run as their first lines say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
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


@pytest.mark.slow
def test_a_clip_is_edited_from_python(tmp_path: Path) -> None:
    said = run(sys.executable, ROOT / "examples" / "edit_a_clip.py", cwd=tmp_path)
    samples, rate = soundfile.read(tmp_path / "edited.wav")
    assert said.startswith("edited.wav: 5.0 s") and (len(samples), rate) == (5 * 32_000, 32_000)


@pytest.mark.slow
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


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for n in range(4):
        noise = np.random.default_rng(n).normal(0, 0.1, 3200)
        soundfile.write(tmp_path / "in" / f"{n}.wav", noise, 32_000)
    return tmp_path / "in"


def test_rays_class_edits_batches_of_paths(songs: Path) -> None:
    """Without Ray: it calls the constructor once and the object with batches of columns, as here."""
    place: dict[str, object] = {"__name__": "example"}
    exec(compile((ROOT / "examples" / "ray_data.py").read_text(), "ray_data.py", "exec"), place)
    out = songs.parent / "out"
    editor = place["Editor"](str(songs), str(out), "Only Drums.", str(ROOT / "model" / "demo" / "bundle"))  # type: ignore[operator]
    paths = sorted(map(str, songs.iterdir()))
    found = editor({"path": np.array(paths[:3])})
    assert list(found["status"]) == ["done"] * 3 and set(found) == {"output", "status", "error"}
    assert {path.name for path in out.iterdir()} == set(found["output"])


@pytest.mark.slow
def test_a_slurm_arrays_tasks_do_every_file_once(songs: Path) -> None:
    """The script's own command, in a shell, with the variables of an array of two tasks."""
    script = songs.parent / "array.sbatch"
    text = (ROOT / "examples" / "slurm_array.sbatch").read_text()
    script.write_text(text.replace("instruct-musicgen edit", f"{sys.executable} -m model.cli edit"))
    array = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "2", "SLURM_ARRAY_TASK_COUNT": "2"}
    options = f"--model {ROOT / 'model' / 'demo' / 'bundle'}"
    out, names = songs.parent / "out", []
    for task in ("1", "2"):
        known = array | {"SLURM_ARRAY_TASK_ID": task, "EDIT_OPTIONS": options, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["bash", script, songs, out], capture_output=True, text=True, env=os.environ | known, cwd=songs.parent
        )
        assert done.returncode == 0 and f"shard {task}/2 (SLURM_ARRAY_TASK_ID)" in done.stderr, done.stderr
        names += [line.partition(",")[0] for line in _rows(out / f"results-{task}-of-2.csv")]
    assert sorted(names) == ["0.wav", "1.wav", "2.wav", "3.wav"]


def _rows(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:] if path.exists() else []


@pytest.mark.slow
def test_the_notebooks_cells_run_and_show_players(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell after cell, as Jupyter would; the value of each last line is shown."""
    monkeypatch.chdir(tmp_path)
    display = types.ModuleType("IPython.display")
    display.HTML = str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    book = json.loads((ROOT / "examples" / "edit_in_a_notebook.ipynb").read_text())
    place: dict[str, object] = {}
    shown = [_shown("".join(cell["source"]), place) for cell in book["cells"] if cell["cell_type"] == "code"]
    pages = [value._repr_html_() for value in shown if hasattr(value, "_repr_html_")]
    pages += [value for value in shown if isinstance(value, str)]
    assert [page.count("<audio controls") for page in pages] == [2, 4, 2] and True in shown
    assert all(page.count("data:image/png;base64,") == page.count("<audio") for page in pages)
    assert soundfile.info(tmp_path / "drums.wav").frames == 100 * 640


def _shown(source: str, place: dict[str, object]) -> object:
    """Run a cell and return what its last line evaluates to."""
    import ast

    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), place)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), place) if last else None  # type: ignore[attr-defined]
