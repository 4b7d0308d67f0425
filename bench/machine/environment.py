"""The origin of a result: machine, system, versions, commit. Kept in every result, printed by `bench env`."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.system import machine
from model.system.installation import installed

from . import hardware

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("mlx", "mlx-cpu", "mlx-metal", "numpy", "scipy-openblas32", "transformers", "tokenizers", "soundfile")
VARIABLES = (
    "INSTRUCT_MUSICGEN_THREADS",
    "INSTRUCT_MUSICGEN_ACTIVATIONS",
    "INSTRUCT_MUSICGEN_CACHES",
    "INSTRUCT_MUSICGEN_FILES",
    "INSTRUCT_MUSICGEN_ISA",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "LD_PRELOAD",
)


@dataclass
class Environment:
    """The machine and the checkout of a result. Sizes are in bytes."""

    machine: str
    slug: str
    cores: int
    memory: int
    os: str
    python: str
    libraries: dict[str, str]
    commit: str
    dirty: bool | None
    architecture: str = ""
    cache: int = 0
    native: dict[str, Any] | None = None
    """The native backend's report about itself (instruction set, threads, activations)."""
    variables: dict[str, str] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)

    def describe(self) -> str:
        """Return the origin in one line."""
        mark = " with uncommitted changes" if self.dirty else ""
        return (
            f"{self.machine}, {self.cores} cores, {self.memory / 2**30:.0f} GiB; {self.os}; Python {self.python}; "
            f"MLX {self.libraries.get('mlx', '?')}; commit {self.commit}{mark}"
        )


def git(*arguments: str) -> str | None:
    """Run git in the project's checkout and return its output; None where this is not the project's checkout."""
    try:
        top, done = (
            subprocess.run(["git", "-C", str(ROOT), *each], capture_output=True, text=True, check=True).stdout.strip()
            for each in (("rev-parse", "--show-toplevel"), arguments)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done if Path(top) == ROOT else None


def commit() -> str:
    """Return the checkout's commit, abbreviated; the package's version where there is no checkout."""
    return git("rev-parse", "--short=10", "HEAD") or f"v{installed('instruct-musicgen-mlx') or 'unknown'}"


def dirty() -> bool | None:
    """Tell whether tracked files differ from the commit; None outside a checkout."""
    status = git("status", "--porcelain", "--untracked-files=no")
    return None if status is None else bool(status)


def collect() -> Environment:
    """Describe this machine and checkout."""
    return Environment(
        machine=machine.processor(),
        slug=hardware.slug(),
        cores=machine.cores(),
        memory=machine.memory(),
        os=platform.platform(),
        python=platform.python_version(),
        libraries={name: v for name in LIBRARIES if (v := installed(name)) is not None},
        commit=commit(),
        dirty=dirty(),
        architecture=platform.machine(),
        cache=machine.cache_bytes(),
        native=native_info(),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        load=list(os.getloadavg()),
    )


def native_info() -> dict[str, Any] | None:
    """Return the native backend's report about itself (instruction set, threads), or None."""
    try:
        from kernels import native

        return native.info() if native.unavailable() is None else None
    except (ImportError, AttributeError):
        return None
