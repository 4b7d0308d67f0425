"""MLX's Metal kernels as its wheel for macOS carries them, fetched once and kept in the user cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mlx.core import __version__ as VERSION  # type: ignore[attr-defined]

INSIDE = "mlx/include/mlx/backend/metal/kernels/"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "instruct-musicgen-mlx" / "mlx-metal"
KEPT = _CACHE / VERSION.split("+")[0].split(".dev")[0]


def fetch() -> str | None:
    """Puts the headers of the wheel of this MLX's version into `KEPT`; why that failed, or None."""
    if KEPT.exists():
        return None
    try:
        _CACHE.mkdir(parents=True, exist_ok=True)
        with (_CACHE / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if KEPT.exists():  # another process was faster
                return None
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
            command += ["--platform", "macosx_14_0_arm64", "--only-binary", ":all:", "--retries", "1"]
            command += ["-d", scratch, f"mlx-metal=={KEPT.name}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            wheels = list(Path(scratch).glob("*.whl"))
            if not wheels:
                errors = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
                return f"pip download mlx-metal=={KEPT.name}: {errors[-1] if errors else 'no wheel'}"
            with zipfile.ZipFile(wheels[0]) as archive:
                archive.extractall(scratch, [n for n in archive.namelist() if n.startswith(INSIDE)])
            shutil.move(Path(scratch) / INSIDE, KEPT)
    except (OSError, subprocess.TimeoutExpired, zipfile.BadZipFile) as problem:
        return f"pip download mlx-metal=={KEPT.name}: {problem}"
    return None


def summary() -> str:
    """For the suite's last lines: where MLX's kernels came from."""
    if KEPT.exists():
        return f"MLX's kernels: from the wheel mlx-metal {KEPT.name}"
    return f"MLX's kernels: from the installed MLX; the wheel mlx-metal {KEPT.name} was NOT fetched"
