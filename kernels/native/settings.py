"""The native backend's settings, from the environment or by a call."""

from __future__ import annotations

import os
from dataclasses import dataclass

import mlx.core as mx

ACTIVATIONS = ("float32", "int16", "int8")  # in the order of src/ops/activations.h
LAYOUTS = ("interleaved", "plain")
FILES = ("mapped", "read")
CACHES = {"float32": mx.float32, "float16": mx.float16}


@dataclass
class NativeSettings:
    """The precision of activations in packed products and of kept keys and values; how matrices lie."""

    activations: str = "int16"
    caches: str = "float32"
    layout: str = "interleaved"
    files: str = "mapped"

    def choose(self, name: str, value: str) -> None:
        """Set one setting. Raises ValueError for a value that is not known."""
        known = {"activations": ACTIVATIONS, "caches": tuple(CACHES), "layout": LAYOUTS, "files": FILES}[name]
        if value not in known:
            raise ValueError(f"{name}={value!r} is not known; use one of {', '.join(known)}")
        setattr(self, name, value)

    def read_environment(self) -> str | None:
        """Set what INSTRUCT_MUSICGEN_ACTIVATIONS, _CACHES, _FILES say. Return the first error in one line, or None."""
        for name in ("activations", "caches", "files"):
            variable = f"INSTRUCT_MUSICGEN_{name.upper()}"
            try:
                self.choose(name, os.environ.get(variable, getattr(self, name)))
            except ValueError as e:
                return f"{variable}{str(e)[len(name) :]}"
        return None
