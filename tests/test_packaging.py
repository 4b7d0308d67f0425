"""The package among its neighbors, and the README among its commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import soundfile

from model.cli import arguments

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()


def python(script: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run a script outside the checkout, with these folders before all others."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=ROOT / "tests" / "golden"
    )


def test_the_package_tells_its_version_without_loading_the_pipeline() -> None:
    done = python("import sys, model; print(model.__version__, 'mlx.core' in sys.modules)", ROOT)
    assert done.stdout.split() == [version("instruct-musicgen-mlx"), "False"], done.stderr


@pytest.mark.slow
def test_transformers_works_beside_our_kernels() -> None:
    """transformers looks for a package named `kernels`: it must not take ours for Hugging Face's."""
    done = python(
        "import kernels, transformers\n"
        "from transformers.utils.import_utils import is_kernels_available\n"
        "assert hasattr(kernels, 'BACKENDS'), kernels\n"
        "assert not is_kernels_available(), 'transformers would call functions that ours does not have'\n"
        "print(len(transformers.AutoTokenizer.from_pretrained('A/t5')('Only Drums.').input_ids))",
        ROOT,
    )
    assert done.returncode == 0 and int(done.stdout) > 1, done.stderr


@pytest.mark.parametrize("content", ["def get_kernel(name): ...", "from kernels.nowhere import get_kernel"])
def test_another_kernels_package_in_front_of_ours_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text(content)
    done = python(
        f"import sys; from model.cli import main\n"
        f"sys.exit(main(['edit', {str(ROOT / 'model/demo/clip.flac')!r}, '-i', 'x', '-o', {str(tmp_path / 'o.wav')!r},"
        f" '--model', 'x', '--quiet']))",
        tmp_path, ROOT,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert str(tmp_path / "kernels") in done.stderr and "pip uninstall kernels" in done.stderr
    api = python("from model import InstructMusicGen", tmp_path, ROOT)
    assert "ShadowedKernels" in api.stderr and "pip uninstall kernels" in api.stderr


def test_no_distribution_of_ours_is_named_kernels() -> None:
    assert 'name = "instruct-musicgen-mlx"' in (ROOT / "pyproject.toml").read_text()


def test_every_file_that_the_program_reads_is_packed() -> None:
    """A wheel holds what `package-data` matches; an editable install would never miss the rest."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    by_package = setuptools["package-data"]
    patterns = [str(Path("*", pattern)) for pattern in by_package["*"]]
    for package in by_package.keys() - {"*"}:
        patterns += [str(Path(*package.split("."), pattern)) for pattern in by_package[package]]
    unpacked = {".py", ".pyc", ".so", ".dylib", ".mid", ".sh"}  # code, built files, and what only people use
    files = [
        file.relative_to(ROOT)
        for package in ("kernels", "reference", "model", "bench")
        for file in (ROOT / package).rglob("*")
        if file.is_file()
        and file.suffix not in unpacked
        and not {"native", "results"} & set(file.relative_to(ROOT).parts)
    ]
    missed = [str(file) for file in files if not any(fnmatch(str(file), pattern) for pattern in patterns)]
    assert len(files) > 10 and missed == [], "add a pattern to package-data in pyproject.toml"


def test_every_system_has_one_version_of_mlx() -> None:
    """The one that extensions are built for, and that the kernels' routes and arithmetic were read from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    pins = [each.split(";")[0].replace("[cpu]", "").strip() for each in needed if re.match(r"mlx\b", each)]
    assert len(pins) == 4 and len(set(pins)) == 1 and re.fullmatch(r"mlx==[\d.]+", pins[0]), pins


def commands() -> list[str]:
    """Every shell line of the README."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    return [line for block in blocks for line in block.strip().splitlines()]


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    """.ci/run takes them from README.md by this pattern, so they are the same words."""
    pattern = re.search(r"grep '(.*?)' README.md", CI)
    assert pattern is not None
    taken = [line for line in README.splitlines() if re.match(pattern[1], line)]
    assert taken == commands()[:2] and len(taken) == 2
    assert "model/demo/clip.flac" in taken[0] and taken[0].endswith(".venv/bin/bench")
    assert taken[1].endswith(".venv/bin/pytest -n auto")
    assert 'bash -euo pipefail -c "${commands[0]}"' in CI and 'bash -euo pipefail -c "${commands[1]}"' in CI


def test_every_command_of_the_readme_parses() -> None:
    """Words after `instruct-musicgen` go through the true parser; files they name in the repository exist."""
    parsed = 0
    for line in commands():
        for part in line.split(" && "):
            words = shlex.split(part)
            if Path(words[0]).name == "instruct-musicgen":
                namespace = arguments.parse(words[1:])
                assert callable(namespace.run)
                parsed += 1
            assert all((ROOT / word).exists() for word in words if word.startswith("model/"))
    assert parsed >= 4


def test_files_the_readme_links_to_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.slow
def test_the_python_example_of_the_readme_runs(tmp_path: Path) -> None:
    """As it stands, with the demo bundle and clip in the places it names."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    (tmp_path / "bundle").symlink_to(ROOT / "model" / "demo" / "bundle")
    (tmp_path / "song.wav").symlink_to(ROOT / "model" / "demo" / "clip.flac")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and soundfile.info(tmp_path / "drums.wav").frames == 160_000, done.stderr


@pytest.mark.backend("interpreter")
def test_the_kernel_of_the_readme_has_the_fault_that_the_readme_names(tmp_path: Path) -> None:
    (kernel,) = re.findall(r"```metal\n(.*?)```", README, re.S)
    (tmp_path / "row_sums.metal").write_text(kernel)
    command = [sys.executable, "-m", "kernels.interpreter", "check", "row_sums.metal"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "out-of-bounds" in done.stdout + done.stderr


def test_console_scripts_exist() -> None:
    """When the project is installed, both programs are, and they load."""
    ours = {e.name: e for e in entry_points(group="console_scripts") if e.value in ("model.cli:main", "bench.cli:main")}
    assert set(ours) == {"instruct-musicgen", "bench"}, "install the project: pip install -e '.[test]'"
    assert all(callable(e.load()) for e in ours.values())
