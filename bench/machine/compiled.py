"""A few lines of C, compiled once into the user's cache: what numpy can't do and no library offers."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..sizes.bundles import cache


def compiler() -> str | None:
    """The C compiler's path, or None."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def library(name: str, source: str, flags: Sequence[str] = ()) -> Path:
    """The shared library of `source`. OSError where there is no compiler or it fails."""
    cc = compiler()
    if cc is None:
        raise OSError("there is no C compiler")
    key = hashlib.sha256(repr((cc, source, flags)).encode()).hexdigest()[:12]
    target = cache() / "compiled" / f"{name}-{key}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part.so")
        command = [cc, "-x", "c", "-", "-shared", "-fPIC", "-O3", "-o", str(part), *flags]
        done = subprocess.run(command, input=source, text=True, capture_output=True)
        if done.returncode:
            raise OSError((done.stderr.strip().splitlines() or ["the C compiler failed"])[-1])
        part.replace(target)
    return target
