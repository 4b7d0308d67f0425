"""What runs here: versions, processor, memory, and whether the published bundle fits."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import mlx.core as mx

from ..system import machine, mlx_buffers
from ..system.installation import installed

PACKAGES = ("instruct-musicgen-mlx", "mlx", "numpy", "safetensors", "tokenizers", "transformers", "huggingface_hub",
            "soundfile", "soxr")  # fmt: skip
PEAK = 3.01e9
"""Bytes: peak memory of the process in a 5 s edit with a bundle of the published one's size, T5 read and let go.

Measured on Linux with the native backend and synthetic weights (README, table of large, 4 bits).
"""
DISK = 2.387e9
"""Bytes of the published bundle's language model and adapter (2.2 GiB)."""
T5 = 0.9e9
"""Bytes of T5-base's file on disk."""


def versions() -> dict[str, str]:
    """Return the versions of Python, the system and the packages in use."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    if sys.platform == "darwin":
        found["macOS"] = platform.mac_ver()[0]
    return found | {package: installed(package) or "not installed" for package in PACKAGES}


def hardware() -> dict[str, Any]:
    """Return the processor, cores, bytes of memory, and what MLX tells about its device."""
    told = dict(mx.device_info())
    return {"processor": machine.processor(), "cores": os.cpu_count(), "memory": machine.memory(), "device": told}


def verdict() -> dict[str, Any]:
    """Tell whether an edit with the published bundle fits: `fits`, `tight` or `too little`, and why."""
    info = mx.device_info()
    limit, of = machine.memory(), "memory"
    if mx.metal.is_available() and "max_recommended_working_set_size" in info:
        limit, of = int(info["max_recommended_working_set_size"]), "memory that Metal recommends for a GPU's work"
    found = "fits" if 0.75 * limit >= PEAK else "tight" if limit >= PEAK else "too little"
    text = (
        f"{found}: the published bundle (2.2 GiB, with T5-base) had a peak of {PEAK / 1e9:.1f} GB in a 5 s edit, "
        f"measured on Linux with weights of its size; here are {limit / 1e9:.1f} GB of {of}"
    )
    held = mlx_buffers.report()
    if mx.metal.is_available():  # elsewhere MLX has no such limits
        text += "; MLX: " + ", ".join(f"{name} {_size(value)}" for name, value in held.items())
    return {"verdict": found, "needs": PEAK, "limit": limit, "mlx": held, "text": text}


def _size(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value / 1e9:.2f} GB"
