"""Builds the native CPU backend with CMake, if it can; everything else about the package stands in pyproject.toml.

The extension is optional: without a C++ compiler the install succeeds, and `kernels.native.unavailable()` (which
`kernels.load`, the command line and `bench` show) says in one line what is missing and how to get it.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

SOURCE = Path(__file__).resolve().parent / "kernels" / "native"
RECORD = "_build.json"
SHIM = "_openblas_shim.so"


class NativeBuild(build_ext):
    """Runs CMake for the one extension, and records what it was built for beside it."""

    def build_extension(self, ext: Extension) -> None:
        """Compile into the place that setuptools (or an editable install) wants; CompileError where that fails."""
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # One build folder per version built for: a rebuild is quick, an upgrade starts afresh.
        build = Path(self.build_temp).resolve() / f"native-{sys.implementation.cache_tag}-mlx-{_version('mlx')}"
        build.mkdir(parents=True, exist_ok=True)
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        self._run(
            "cmake", "-S", str(SOURCE), "-B", str(build), *generator,
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            "-DCMAKE_BUILD_TYPE=Release",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        )  # fmt: skip
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
        self._run("cmake", "--build", str(build), "--parallel", jobs)
        record = {
            "mlx": _version("mlx"),
            "nanobind": _version("nanobind"),
            "python": platform.python_version(),
            "machine": platform.machine(),
        }
        (target.parent / RECORD).write_text(json.dumps(record, indent=1) + "\n")

    def _run(self, *command: str) -> None:
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as e:
            # `optional` makes setuptools report this and go on.
            raise CompileError(f"the native CPU backend was not built, so it will not be available: {e}") from e

    def copy_extensions_to_source(self) -> None:
        """For editable installs: what was built beside the extension goes where the extension goes."""
        super().copy_extensions_to_source()
        for ext in self.extensions:
            for name in (RECORD, SHIM):
                built = Path(self.build_lib, *ext.name.split(".")[:-1]) / name
                if built.exists():
                    shutil.copy(built, Path(self.get_ext_fullpath(ext.name)).parent / name)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


setup(
    ext_modules=[Extension("kernels.native._extension", sources=[], optional=True)],
    cmdclass={"build_ext": NativeBuild},
)
