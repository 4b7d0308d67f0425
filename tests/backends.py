"""Which backends this machine must be able to run, so that tests can insist on them instead of skipping them."""

from __future__ import annotations

import functools
import shutil
import sys

import mlx.core as mx

import kernels
from kernels import Ops

# The precision of activations that a backend declares for its packed matmul (see reference/tolerance.py).
ACTIVATION_BITS = {"native": 16}


def _compiler() -> bool:
    return any(shutil.which(c) for c in ("g++", "clang++", "c++"))


def missing() -> dict[str, str]:
    """The backends that this machine cannot run, each with the reason."""
    out = {}
    if not _compiler():
        out["interpreter"] = "no C++ compiler"
    if not sys.platform.startswith("linux"):
        out["native"] = "not tested on macOS yet"
    elif not _compiler():
        out["native"] = "no C++ compiler"
    if not mx.metal.is_available():
        out["metal"] = "no Metal GPU"
    return out


def names() -> list[str]:
    """The backends that must run here; one of them failing to load fails its tests."""
    return [name for name in ("reference", "native", "interpreter", "metal") if name not in missing()]


@functools.cache
def load(name: str) -> Ops:
    return kernels.load(name)
