"""What stops a stage of the recipe: one line that names the value and the fix."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from ...errors import UserError

FONTS = (
    (Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"), "fluid-soundfont-gm"),
    (Path("/usr/share/sounds/sf3/MuseScore_General_Lite.sf3"), "musescore-general-soundfont-small"),
)
"""The two soundfonts, both MIT-licensed, and the Debian packages that install them."""


def need_fluidsynth() -> str:
    """Return the path of fluidsynth. Raises UserError if it is not installed."""
    path = shutil.which("fluidsynth")
    if path is None:
        raise UserError("fluidsynth is not installed; install the package 'fluidsynth' (apt-get install fluidsynth)")
    return path


def need_font(index: int) -> Path:
    """Return the path of one of `FONTS`. Raises UserError if the soundfont is not installed."""
    path, package = FONTS[index]
    if not path.is_file():
        raise UserError(f"the soundfont {path} is missing; install the package '{package}' (apt-get install {package})")
    return path


def need_torch() -> None:
    """Raise UserError if torch is not installed."""
    need_module("torch")


def need_module(name: str) -> None:
    """Raise UserError if a Python package of the extra `train` is not installed."""
    if importlib.util.find_spec(name) is None:
        raise UserError(f"{name} is not installed; install the extra 'train' (pip install -e '.[train]')")
