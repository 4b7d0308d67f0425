"""The folder where the program keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """`$INSTRUCT_MUSICGEN_CACHE`, else `instruct-musicgen` in the user's cache folder.

    Absolute, since the columns' processes run in another folder.
    """
    if own := os.environ.get("INSTRUCT_MUSICGEN_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "instruct-musicgen"
