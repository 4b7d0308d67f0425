"""MLX's prelude of every custom kernel (its utils.h): type limits, strided indexing, complex numbers, constants.

It is taken from the headers that the installed MLX carries and rewritten like any Metal source.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import mlx.core as mx

from ..compiler import CompilerError
from .rewrite import rewrite

_FOLDER = Path(mx.__file__).parent / "include"
_UTILS = "mlx/backend/metal/kernels/utils.h"
# Functions of bfloat on top of the Metal library's internals: the stand-in for that library has them.
_REPLACED = {"mlx/backend/metal/kernels/bf16_math.h"}
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"\n]+)[>"].*$', re.MULTILINE)
_BROUGHT = re.compile(r"struct\s+Limits\b")
_BFLOAT_FUNCTIONS = re.compile(r"^instantiate_metal_\w+_funcs\s*\([^;#]*\);", re.MULTILINE)


def brought(header: str) -> bool:
    """Return whether a header holds the prelude itself, as headers flattened with all that they include do."""
    return bool(_BROUGHT.search(header))


def without_internals(header: str) -> str:
    """Return a header that holds the prelude, without its functions on top of the Metal library's internals."""
    return _BFLOAT_FUNCTIONS.sub(lambda m: "\n" * m.group().count("\n"), header)


def _flattened(name: str, seen: set[str]) -> str:
    if name in seen or name in _REPLACED or not name.startswith("mlx/"):
        return ""
    seen.add(name)
    try:
        text = (_FOLDER / name).read_text()
    except OSError:
        raise CompilerError(f"{_FOLDER / name}, a part of MLX's kernel prelude, is missing; reinstall mlx") from None
    return _INCLUDE.sub(lambda m: _flattened(m.group(1), seen), text)


@functools.cache
def source() -> str:
    """Return MLX's prelude in Metal, unchanged."""
    return _flattened(_UTILS, set())


@functools.cache
def compiled() -> str:
    """Return MLX's prelude translated to C++."""
    return rewrite(source())
