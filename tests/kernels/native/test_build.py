"""An extension that is missing, or built for another MLX, is explained; an install without a compiler works."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest

import kernels
from kernels.native import loading

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def one_line(reason: str | None) -> str:
    assert reason is not None and "\n" not in reason
    assert "pip install" in reason and "slower" in reason
    return reason


def test_another_mlx_than_it_was_built_for(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "build_record", lambda: {"mlx": "0.31.2", "nanobind": "2.9.0"})
    extension, reason = loading.load()
    assert extension is None
    text = one_line(reason)
    assert "built for MLX 0.31.2" in text and mx.__version__ in text and 'pip install "mlx==0.31.2"' in text  # type: ignore[attr-defined]


def test_headers_of_another_mlx(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(mlx_version="0.30.0")
    monkeypatch.setattr(importlib, "import_module", lambda name: fake)
    monkeypatch.setattr(loading, "build_record", dict)
    extension, reason = loading.load()
    assert extension is None and "headers of MLX 0.30.0" in one_line(reason)


def test_another_nanobind_interface(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(a: Any) -> None:
        raise TypeError("incompatible function arguments")

    version = mx.__version__.split(".dev")[0].split("+")[0]  # type: ignore[attr-defined]
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(mlx_version=version, accepts=reject))
    monkeypatch.setattr(loading, "build_record", lambda: {"mlx": mx.__version__, "nanobind": "2.2.0"})  # type: ignore[attr-defined]
    extension, reason = loading.load()
    assert extension is None and "nanobind 2.2.0" in one_line(reason)


def test_sources_of_another_version(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `git pull` in an editable install: the extension lacks, or takes otherwise, what is called."""
    version = mx.__version__.split(".dev")[0].split("+")[0]  # type: ignore[attr-defined]
    fake = SimpleNamespace(mlx_version=version, accepts=lambda a: 1, interface=loading.INTERFACE - 1)
    monkeypatch.setattr(importlib, "import_module", lambda name: fake)
    extension, reason = loading.load()
    assert extension is None and "another version of this project's sources" in one_line(reason)


@pytest.mark.parametrize("error", [ModuleNotFoundError("no module"), ImportError("undefined symbol: _ZN3mlx4core")])
def test_no_extension_or_one_that_does_not_load(error: ImportError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    extension, reason = loading.load()
    assert extension is None
    text = one_line(reason)
    assert ("compiler" in text) if isinstance(error, ModuleNotFoundError) else ("undefined symbol" in text)


def rebuilt_from(record: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    """The end of the command that is advised to an install outside a checkout with this direct_url.json."""
    text = None if record is None else json.dumps(record)
    monkeypatch.setattr(loading, "distributions", lambda name: [SimpleNamespace(read_text=lambda file: text)])
    monkeypatch.setattr(loading, "HERE", folder / "site-packages" / "kernels" / "native")
    before, _, target = loading.rebuild_command().partition(loading.PIP_REBUILD)
    assert before.startswith("pip install ")
    return target.strip()


def test_rebuilding_starts_from_where_it_was_installed_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The project is on no index, so its name alone would not do."""
    source = tmp_path / "with a space"
    source.mkdir()
    folder = {"url": source.as_uri(), "dir_info": {}}
    assert rebuilt_from(folder, monkeypatch, tmp_path) == f"'{source}'"
    source.rmdir()
    assert rebuilt_from(folder, monkeypatch, tmp_path).startswith("SOURCE (")
    wheel = tmp_path / "instruct_musicgen_mlx-0.1.0-py3-none-any.whl"
    wheel.touch()
    assert rebuilt_from({"url": wheel.as_uri(), "archive_info": {}}, monkeypatch, tmp_path).startswith("SOURCE (")
    archive = tmp_path / "instruct_musicgen_mlx-0.1.0.tar.gz"
    archive.touch()
    assert rebuilt_from({"url": archive.as_uri(), "archive_info": {}}, monkeypatch, tmp_path) == str(archive)
    clone = {"url": "https://example.org/it.git", "vcs_info": {"vcs": "git", "commit_id": "a1b2"}}
    assert rebuilt_from(clone, monkeypatch, tmp_path) == "git+https://example.org/it.git@a1b2"
    assert rebuilt_from(None, monkeypatch, tmp_path).startswith("SOURCE (")


def test_load_raises_and_auto_falls_back_with_one_warning(native: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_reason", "it is not there; pip install it")
    monkeypatch.setattr(native, "_extension", None)
    load = kernels.load.__wrapped__
    with pytest.raises(kernels.BackendUnavailable, match="it is not there; pip install it"):
        load("native")
    with pytest.raises(RuntimeError, match="it is not there"):
        native.info()
    if mx.metal.is_available():
        return
    monkeypatch.setattr(kernels, "load", load)
    with pytest.warns(UserWarning, match="it is not there") as caught:
        assert kernels._best().name == "reference"
    assert len(caught) == 1


def test_an_install_without_cmake_or_compiler_goes_on(tmp_path: Path) -> None:
    """setup.py alone: the metadata in pyproject.toml is not what is tested here."""
    shutil.copy(ROOT / "setup.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tmp_path, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the native CPU backend was not built" in done.stderr
    assert not list(tmp_path.rglob("_extension*"))


def test_the_build_is_pinned_to_the_mlx_that_is_installed() -> None:
    """The three places that must change together, and the nanobind that goes with them."""
    text = (ROOT / "pyproject.toml").read_text()
    pins = re.findall(r'"mlx\[cpu\]==([\d.]+); sys_platform == \'linux\'"', text)
    assert len(pins) == 2 and len(set(pins)) == 1, "build requirement and dependency must name the same MLX"
    record = loading.build_record()
    if record and sys.platform == "linux":
        assert record["mlx"] == pins[0] == mx.__version__  # type: ignore[attr-defined]
        assert f'"nanobind=={".".join(record["nanobind"].split(".")[:2])}.*"' in text


def test_a_source_distribution_would_hold_every_source() -> None:
    listed = (ROOT / "MANIFEST.in").read_text()
    folder = ROOT / "kernels" / "native"
    assert "recursive-include kernels/native/src *.cpp *.h" in listed
    # And the tests, with what they read outside the packages, so that README's second command works there too.
    assert {"graft tests", "graft .ci", "graft bench/results"} <= set(listed.splitlines())
    assert {p.suffix for p in (folder / "src").rglob("*") if p.is_file()} <= {".cpp", ".h"}
    named = re.findall(r"src/((?:\w+/)?\w+\.cpp)", (folder / "CMakeLists.txt").read_text())
    assert set(named) == {p.relative_to(folder / "src").as_posix() for p in (folder / "src").rglob("*.cpp")}
