"""The folders where the program keeps what can be made again, and what can not."""

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


def data() -> Path:
    """Return `$XDG_DATA_HOME/instruct-musicgen`, else the like in the user's home: what is here is kept."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share").absolute() / "instruct-musicgen"
