"""The native backend's pool of threads on its own, so that the shipped extension needs no hooks for tests."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
RUNTIME = HERE.parents[2] / "kernels" / "native" / "src" / "runtime"


def compiler() -> str | None:
    """The C++ compiler: $CXX, else c++ or g++."""
    return os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")


def missing() -> str | None:
    """Why the pool cannot be compiled here, and the fix."""
    return None if compiler() else "no C++ compiler is installed (apt-get install g++)"


def summary() -> list[str]:
    """A line if the pool was not tested on its own, for the end of a run."""
    return [f"the pool of threads NOT tested on its own: {why}"] if (why := missing()) else []


def build(folder: Path) -> str:
    """Compile pool.cpp and its hooks to a shared library, with $CXXFLAGS (a sanitizer's, say); return its path."""
    library = folder / "pool_hooks.so"
    command = [
        compiler() or "c++", "-std=c++20", "-O2", "-shared", "-fPIC", "-pthread", f"-I{RUNTIME}",
        *shlex.split(os.environ.get("CXXFLAGS", "")),
        HERE / "pool_hooks.cpp", RUNTIME / "pool.cpp", RUNTIME / "affinity.cpp", "-o", library,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return str(library)


class Pool:
    """The library that `build` made; its loops run without Python's lock, as MLX's do."""

    def __init__(self, library: str) -> None:
        self.library = library
        self._c = ctypes.CDLL(library)
        self._c.pool_sum.restype = ctypes.c_int64

    def sum(self, count: int) -> int:
        """Return 0 + 1 + ... + count - 1, each added by the chunk of that number."""
        return int(self._c.pool_sum(count))

    def shares_wrong(self, count: int) -> int:
        """Return how many of `count` pieces were not run exactly once, every thread taking its share first."""
        return int(self._c.pool_shares_wrong(count))

    def fails_for_lack_of_memory(self, count: int) -> bool:
        """Return whether a loop raises std::bad_alloc when every second chunk does."""
        return bool(self._c.pool_fails_for_lack_of_memory(count))

    def threads(self) -> int:
        """Return how many threads take part."""
        return int(self._c.pool_threads())

    def set_threads(self, count: int) -> None:
        """Set how many threads take part."""
        self._c.pool_set_threads(count)

    def stop(self) -> None:
        """Join the workers; the next loop starts them again."""
        self._c.pool_stop()
