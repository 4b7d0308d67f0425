"""Peak memory of this process.

On Linux from VmHWM: `ru_maxrss` would also count the parent that forked a child, before it became the child.
"""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_rss() -> int:
    """Bytes: the largest resident set so far, or since `reset_peak_rss` where that works."""
    if STATUS.exists():
        match = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        if match:
            return int(match[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_rss() -> bool:
    """Start the peak anew from what is resident now; False where the system can't (the peak then is of all so far)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
