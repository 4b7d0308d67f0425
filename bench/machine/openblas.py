"""The reference with a real BLAS: MLX's Linux wheel calls a slow `cblas_sgemm`; a shim hands those calls to OpenBLAS.

So the baseline column can also show what stock MLX would do on a machine with a good BLAS. The shim is ten lines of C,
compiled once and put before MLX's library with LD_PRELOAD, in the child process of that column alone.
"""

from __future__ import annotations

import importlib
import sys

from model.errors import UserError

from . import compiled

SOURCE = """\
void scipy_cblas_sgemm(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float* a, int lda, const float* b,
                 int ldb, float beta, float* c, int ldc) {
  scipy_cblas_sgemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
"""


def unavailable() -> str | None:
    """Why it can't be done here, or None."""
    if not sys.platform.startswith("linux"):
        return "only Linux wheels of MLX call a BLAS that can be replaced"
    if compiled.compiler() is None:
        return "there is no C compiler"
    try:
        importlib.import_module("scipy_openblas32")
    except ImportError:
        return "scipy-openblas32 is not installed"
    return None


def environment() -> dict[str, str]:
    """What to add to a child's environment; UserError where it can't be done."""
    if reason := unavailable():
        raise UserError(f"the openblas column cannot run here: {reason}")
    openblas = importlib.import_module("scipy_openblas32")
    folder = openblas.get_lib_dir()
    try:
        flags = [f"-L{folder}", f"-Wl,-rpath,{folder}", f"-l{openblas.get_library()}"]
        shim = compiled.library("openblas", SOURCE, flags)
    except OSError as e:
        raise UserError(f"cannot compile the OpenBLAS shim: {e}") from e
    return {"LD_PRELOAD": str(shim)}
