"""The compiled extension: found and loaded, or one line that says what to do where it cannot be used."""

from __future__ import annotations

import glob
import importlib
import importlib.util
import json
import os
import shlex
import sys
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlx.core as mx

HERE = Path(__file__).resolve().parent
PIP_REBUILD = "pip install --force-reinstall --no-deps --no-build-isolation --no-cache-dir"
INTERFACE = 11  # of the extension, as src/mlx/bindings.cpp states it; both change with every function that changes
FALLBACK_COST = "the MLX reference takes its place and is some 30 times slower"


def build_record() -> dict[str, str]:
    """Return the versions of MLX, nanobind and Python that the extension was built with; {} without an extension."""
    path = HERE / "_build.json"
    try:
        record: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record


def rebuild_command() -> str:
    """Return the shell command that builds the extension for the MLX installed now."""
    root = HERE.parents[1]
    tools = 'pip install "nanobind==3.1.*" cmake ninja "setuptools>=77"'
    target = f"-e {shlex.quote(str(root))}" if (root / "pyproject.toml").exists() else installed_from()
    if target is None:
        return f"{tools} && {PIP_REBUILD} SOURCE (SOURCE is the folder or the archive of this project's source)"
    return f"{tools} && {PIP_REBUILD} {target}"


def installed_from() -> str | None:
    """Return the address or path that pip was given, by direct_url.json, if the extension can be built from it.

    It is a repository, or a folder or source archive that is still there; None for a wheel or an index.
    """
    for distribution in distributions(name="instruct-musicgen-mlx"):
        try:
            record = json.loads(distribution.read_text("direct_url.json") or "null")
        except ValueError:
            continue
        if not record:
            continue
        url = str(record["url"])
        if vcs := record.get("vcs_info"):
            return shlex.quote(f"{vcs['vcs']}+{url}@{vcs['commit_id']}")
        parts = urlsplit(url)
        path = url2pathname(parts.path)
        if parts.scheme == "file" and os.path.exists(path) and not path.endswith(".whl"):
            return shlex.quote(path)
    return None


def load() -> tuple[ModuleType | None, str | None]:
    """Return the extension, or None and the reason with the fix."""
    record = build_record()
    built_for, running = record.get("mlx"), str(vars(mx)["__version__"])
    if built_for is not None and built_for != running:
        return None, (
            f"it was built for MLX {built_for} and MLX {running} is imported, whose C++ interface may differ; "
            f'{FALLBACK_COST}. Rebuild it: {rebuild_command()} - or go back: pip install "mlx=={built_for}"'
        )
    try:
        extension = importlib.import_module("kernels.native._extension")
    except ModuleNotFoundError:
        return None, (
            f"its extension is not built for this Python ({sys.implementation.cache_tag}), usually because no C++20 "
            f"compiler was found at install time; {FALLBACK_COST}. Install one (apt-get install g++, or "
            f"xcode-select --install), then: {rebuild_command()}"
        )
    except ImportError as e:
        return None, f"its extension does not load ({e}); {FALLBACK_COST}. Rebuild it: {rebuild_command()}"
    if extension.mlx_version != running.split(".dev")[0].split("+")[0]:
        return None, (
            f"it was compiled with the headers of MLX {extension.mlx_version} and MLX {running} is imported; "
            f"{FALLBACK_COST}. Rebuild it: {rebuild_command()}"
        )
    try:
        extension.accepts(mx.array(1.0))
    except TypeError:
        return None, (
            f"MLX {running} and the extension use different nanobind interfaces (it was built with nanobind "
            f"{record.get('nanobind', 'of an unknown version')}), so it rejects every array; {FALLBACK_COST}. "
            f"Rebuild it: {rebuild_command()}"
        )
    if getattr(extension, "interface", None) != INTERFACE:
        return None, (
            f"it was built from another version of this project's sources; {FALLBACK_COST}. "
            f"Rebuild it: {rebuild_command()}"
        )
    wanted = os.environ.get("INSTRUCT_MUSICGEN_ISA")
    if wanted and wanted != "auto" and wanted not in extension.isas():
        return None, (
            f"INSTRUCT_MUSICGEN_ISA={wanted!r} cannot run on this machine; use one of auto, "
            f"{', '.join(extension.isas())}"
        )
    _load_blas(extension)
    return extension, None


def _load_blas(extension: ModuleType) -> None:
    """Give the extension a float32 matrix product: OpenBLAS of scipy-openblas32, or Accelerate on macOS."""
    if sys.platform == "darwin":
        extension.load_blas("/System/Library/Frameworks/Accelerate.framework/Accelerate")
        return
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None or spec.origin is None:
        return  # the built-in products are right, only slower; `info()` tells
    for library in sorted(glob.glob(os.path.join(os.path.dirname(spec.origin), "lib", "libscipy_openblas*"))):
        if extension.load_blas(library):
            return
