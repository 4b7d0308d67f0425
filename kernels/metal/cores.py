"""The number of cores of this machine's GPU, which neither Metal nor MLX tells."""

from __future__ import annotations

import functools
import re
import subprocess
import sys

FEWEST_CORES = {"g": 7, "s": 24, "d": 48}
"""The fewest cores that were sold, by the letter that ends MLX's name of the architecture: base and Pro, Max, Ultra."""


@functools.cache
def gpu_cores(architecture: str) -> int:
    """Return the cores that macOS lists for the GPU, else the fewest of an architecture such as "applegpu_g16s".

    Return 0 for a name that is not Apple's.
    """
    found = re.search(r'"gpu-core-count"\s*=\s*(\d+)', _listed())
    if found:
        return int(found[1])
    apple = re.fullmatch(r"applegpu_g\d+(\w)", architecture)
    return FEWEST_CORES.get(apple[1], 0) if apple else 0


def _listed() -> str:
    """Return macOS's entry for the GPU, "" on another system or where the tool fails."""
    if sys.platform != "darwin":
        return ""
    command = ["/usr/sbin/ioreg", "-r", "-c", "AGXAccelerator", "-d", "1"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False, errors="replace").stdout
    except (OSError, subprocess.SubprocessError):
        return ""
