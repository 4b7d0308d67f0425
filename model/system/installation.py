"""What is installed: versions, and whether the package that answers to `kernels` is ours, not Hugging Face's."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version

from ..errors import UserError

PROGRAM = "instruct-musicgen-mlx"


class ShadowedKernels(UserError, ImportError):
    """Another package named `kernels` stands where this project's should be."""


def installed(package: str) -> str | None:
    """Return the version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def program_version() -> str:
    """Return this program's version; "" where it runs from files that were never installed."""
    return installed(PROGRAM) or ""


def check_kernels() -> None:
    """Raise ShadowedKernels, with the place and the fix, unless `import kernels` gives this project's package."""
    reason = ""
    try:
        if hasattr(importlib.import_module("kernels"), "BACKENDS"):
            return
    except ImportError as e:
        reason = f" and fails to import: {e}"
    spec = importlib.util.find_spec("kernels")
    place = (spec.origin or next(iter(spec.submodule_search_locations or ["?"]))) if spec else "nowhere"
    raise ShadowedKernels(
        f"the Python package 'kernels' found at {place} is not this project's{reason} (Hugging Face publishes one of "
        "the same name); run 'pip uninstall kernels' and install instruct-musicgen-mlx again, or give it a virtual "
        "environment of its own"
    )
