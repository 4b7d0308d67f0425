"""What the demo's recipe needs beyond the project's own packages, and what of it is not on this machine."""

from __future__ import annotations

import importlib.util
import shutil

from model.demo.training.failures import FONTS

WHAT = {"train": "tests that train the demo", "render": "tests that render songs"}
"""The marks, and what the end of a run calls their tests."""


def missing() -> dict[str, str]:
    """Marks whose tests can't run here, and why."""
    found = {}
    if importlib.util.find_spec("torch") is None:
        found["train"] = "torch is not installed (pip install -e '.[test,train]')"
    absent = [package for path, package in FONTS if not path.is_file()]
    if shutil.which("fluidsynth") is None:
        absent.insert(0, "fluidsynth")
    if absent:
        found["render"] = f"not installed: {', '.join(absent)} (apt-get install)"
    return found
