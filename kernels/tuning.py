"""What `bench tune` found fastest on this machine: kept in the user's cache, and used by `kernels.load` from then on.

A tuning belongs to one machine, system, MLX and state of the kernels; with any other it is not used.
INSTRUCT_MUSICGEN_TUNING=off leaves it out, INSTRUCT_MUSICGEN_CACHE names the folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import tempfile
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from .user_cache import cache_folder

VARIABLE = "INSTRUCT_MUSICGEN_TUNING"
HERE = Path(__file__).parent
TUNED = ("metal", "native")
"""Backends that have something to tune."""


@dataclass(frozen=True)
class Key:
    """The machine, software and kernels that a tuning was measured on."""

    backend: str
    architecture: str
    system: str
    mlx: str
    kernels: str

    @classmethod
    def of(cls, backend: str) -> Key:
        """Return the key of a backend on this machine."""
        told = mx.device_info()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        chip = f"{told.get('architecture', platform.machine())}, {told.get('device_name', '')}, {cores} cores"
        macos = platform.mac_ver()[0]
        system = f"macOS {macos}" if macos else platform.system()
        return cls(backend, chip, system, str(vars(mx)["__version__"]), kernel_hash(backend))


@dataclass(frozen=True)
class Tuning:
    """Knobs by name, how many times faster a step was with them than with the defaults, and where that was measured."""

    key: Key
    knobs: dict[str, Any]
    gain: float = 1.0
    created: str = ""
    step: dict[str, Any] = field(default_factory=dict)
    """The step that was measured: the model's dimensions, and milliseconds before and after."""


@functools.cache
def kernel_hash(backend: str) -> str:
    """Return the hash of all files that the backend's kernels are made from."""
    folder = HERE / backend
    suffixes = (".metal", ".h", ".py") if backend == "metal" else (".so", ".py")
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in suffixes):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def folder() -> Path:
    """Return the folder that tunings are kept in; nothing is made."""
    return cache_folder() / "tuning"


def path(backend: str) -> Path:
    """Return the file that holds a backend's latest tuning."""
    return folder() / f"{backend}.json"


def save(tuning: Tuning) -> Path:
    """Write a tuning to `path`, whole or not at all, and return the file. Raises OSError if that fails.

    By hand, since `kernels` may not import `model.whole_file`.
    """
    target = path(tuning.key.backend)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=target.parent, suffix=".part", delete=False) as part:
        try:
            part.write(json.dumps(asdict(tuning), indent=2) + "\n")
            part.close()
            os.replace(part.name, target)
        except BaseException:
            os.unlink(part.name)
            raise
    return target


def saved(backend: str) -> Tuning | None:
    """Return the backend's tuning, wherever it was measured; None if there is none.

    Raises ValueError if the file is not a tuning.
    """
    try:
        raw = json.loads(path(backend).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        raise ValueError(f"{path(backend)} cannot be read ({e})") from None
    try:
        tuning = Tuning(Key(**raw.pop("key")), **raw)
    except (TypeError, AttributeError, KeyError) as e:
        raise ValueError(f"{path(backend)} is not a tuning ({e})") from None
    if not (isinstance(tuning.knobs, dict) and isinstance(tuning.gain, (int, float))):
        raise ValueError(f"{path(backend)} is not a tuning (knobs {tuning.knobs!r}, gain {tuning.gain!r})")
    return tuning


def off() -> bool:
    """Tell whether the user has switched tuning off."""
    return os.environ.get(VARIABLE, "").strip().lower() in ("off", "0", "no")


def in_use(backend: str) -> Tuning | None:
    """Return the tuning that fits this machine, or None. A bad file gives one warning."""
    if off() or backend not in TUNED:
        return None
    try:
        tuning = saved(backend)
    except ValueError as e:
        warnings.warn(f"{e}; not used. `bench tune` writes it anew", stacklevel=3)
        return None
    return tuning if tuning is not None and tuning.key == Key.of(backend) else None


def warn_unusable(backend: str, error: Exception) -> None:
    """Warn that a tuning's knobs cannot be set."""
    warnings.warn(f"{path(backend)}: {error}; not used. `bench tune` writes it anew", stacklevel=3)


def status(backend: str) -> str:
    """Return one line for reports that says what is tuned."""
    if backend not in TUNED:
        return "nothing to tune"
    if off():
        return f"off ({VARIABLE})"
    try:
        tuning = saved(backend)
    except ValueError as e:
        return f"not used: {e}"
    if tuning is None:
        return "none; `bench tune` makes one"
    knobs = ", ".join(f"{name}={json.dumps(value)}" for name, value in tuning.knobs.items()) or "the defaults"
    line = f"{knobs} ({tuning.gain:.3g}x, {tuning.created[:10]})"
    now = Key.of(backend)
    other = [name for name, value in asdict(now).items() if value != getattr(tuning.key, name)]
    return f"not used, made for another {', '.join(other)}: {line}" if other else line
