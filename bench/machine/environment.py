"""Where a result comes from: machine, system, versions, commit. Kept in every result, printed by `bench env`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import hardware as machine

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("mlx", "mlx-cpu", "mlx-metal", "numpy", "scipy-openblas32", "transformers", "tokenizers", "soundfile")
VARIABLES = (
    "INSTRUCT_MUSICGEN_THREADS", "INSTRUCT_MUSICGEN_ACTIVATIONS", "INSTRUCT_MUSICGEN_ISA", "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS", "LD_PRELOAD",
)


def git(*arguments: str) -> str | None:
    """What git says in the project's checkout; None outside one, as where it is installed into another project's."""
    try:
        top, done = (
            subprocess.run(["git", "-C", str(ROOT), *each], capture_output=True, text=True, check=True).stdout.strip()
            for each in (("rev-parse", "--show-toplevel"), arguments)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done if Path(top) == ROOT else None


def commit() -> str:
    """The checkout's commit, abbreviated; the package's version where there is no checkout."""
    return git("rev-parse", "--short=10", "HEAD") or f"v{_version('instruct-musicgen-mlx') or 'unknown'}"


def dirty() -> bool | None:
    """Whether tracked files differ from the commit; None outside a checkout."""
    status = git("status", "--porcelain", "--untracked-files=no")
    return None if status is None else bool(status)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def collect() -> dict[str, Any]:
    """The record that results keep."""
    return {
        "machine": machine.processor(),
        "slug": machine.slug(),
        "architecture": platform.machine(),
        "cores": machine.cores(),
        "memory": machine.memory(),
        "cache": machine.cache_bytes(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: v for name in LIBRARIES if (v := _version(name)) is not None},
        "commit": commit(),
        "dirty": dirty(),
        "native": native_info(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "load": list(os.getloadavg()),
    }


def backends() -> dict[str, str | None]:
    """Each backend with None where it can run here, else why not."""
    import kernels

    return kernels.available()


def native_info() -> Any:
    """What the native backend reports about itself (instruction set, threads), or None."""
    try:
        from kernels import native

        return native.info() if native.unavailable() is None else None
    except (ImportError, AttributeError):
        return None


def describe(environment: dict[str, Any]) -> str:
    """One line about a saved result's origin."""
    e = environment
    mark = " with uncommitted changes" if e.get("dirty") else ""
    return (
        f"{e['machine']}, {e['cores']} cores, {e['memory'] / 2**30:.0f} GiB; {e['os']}; Python {e['python']}; "
        f"MLX {e['libraries'].get('mlx', '?')}; commit {e['commit']}{mark}"
    )


def executable() -> str:
    """The interpreter in use."""
    return sys.executable
