"""The user's cache folder, for what can be made again: tunings, synthetic bundles, unfinished long edits."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `$INSTRUCT_MUSICGEN_CACHE`, else `instruct-musicgen` in the user's cache folder (`$XDG_CACHE_HOME`).

    The path is absolute, since child processes may run in another folder. Nothing is made.
    """
    if own := os.environ.get("INSTRUCT_MUSICGEN_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "instruct-musicgen"
