"""The folders where the program keeps what can be made again, and what can not."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """Return the user's cache folder, where tunings are kept too; see `kernels.user_cache`."""
    from kernels.user_cache import cache_folder  # not above: `kernels` imports MLX, and `data` is asked for without

    return cache_folder()


def data() -> Path:
    """Return `$XDG_DATA_HOME/instruct-musicgen`, else the like in the user's home: what is here is kept."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share").absolute() / "instruct-musicgen"
