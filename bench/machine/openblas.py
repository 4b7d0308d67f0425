"""The reference with a real BLAS: MLX's Linux wheel calls a slow `cblas_sgemm`; a shim hands those calls to OpenBLAS.

So the baseline column can also show what stock MLX would do on a machine with a good BLAS. The shim is built with the
native extension and put before MLX's library with LD_PRELOAD, in the child process of that column alone.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from model.errors import UserError

from .environment import ROOT

SHIM = ROOT / "kernels" / "native" / "_openblas_shim.so"


def unavailable() -> str | None:
    """Return why OpenBLAS cannot be used here, or None."""
    if not sys.platform.startswith("linux"):
        return "only Linux wheels of MLX call a BLAS that can be replaced"
    if not SHIM.exists():
        return "its shim is not built; install a C++ compiler and this project again"
    try:
        importlib.import_module("scipy_openblas32")
    except ImportError:
        return "scipy-openblas32 is not installed; pip install scipy-openblas32"
    return None


def environment() -> dict[str, str]:
    """Return the variables to add to a child's environment. Raises UserError if OpenBLAS cannot be used here."""
    if reason := unavailable():
        raise UserError(f"the openblas column cannot run here: {reason}")
    openblas = importlib.import_module("scipy_openblas32")
    library = Path(openblas.get_lib_dir()) / f"lib{openblas.get_library()}.so"
    return {"LD_PRELOAD": str(SHIM), "INSTRUCT_MUSICGEN_OPENBLAS": str(library)}
