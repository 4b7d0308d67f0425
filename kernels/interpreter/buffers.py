"""MLX arrays as memory that a kernel sees, and back: inputs where they lie, outputs filled so that gaps show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from .launch import INPUT, OUTPUT, Buffer

_NUMPY: dict[mx.Dtype, Any] = {mx.bool_: np.bool_, mx.bfloat16: np.uint16, mx.complex64: np.complex64}
_NUMPY |= {getattr(mx, n): getattr(np, n) for n in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32")}
_NUMPY |= {getattr(mx, n): getattr(np, n) for n in ("int64", "float16", "float32")}


def view(a: mx.array, *, contiguous: bool) -> npt.NDArray[Any]:
    """Return the array's own memory, strides included; a copy in row order if `contiguous` and it is not."""
    memory = np.asarray(memoryview(a.view(mx.uint16) if a.dtype == mx.bfloat16 else a))  # type: ignore[arg-type]
    return np.ascontiguousarray(memory) if contiguous and not memory.flags.c_contiguous else memory


def input_buffer(name: str, memory: npt.NDArray[Any], dtype: mx.Dtype) -> Buffer:
    """Describe an input's memory: all that its elements span, whatever the signs of its strides."""
    spans = [(n - 1) * stride for n, stride in zip(memory.shape, memory.strides)] if memory.size else []
    before, after = sum(s for s in spans if s < 0), sum(s for s in spans if s > 0)
    size = after - before + memory.itemsize if memory.size else 0
    floating = mx.issubdtype(dtype, mx.floating)
    return Buffer(name, memory.ctypes.data + before, size, memory.itemsize, INPUT, offset=-before, floating=floating)


def fact_buffer(name: str, role: str, memory: npt.NDArray[Any], keep: list[Any]) -> Buffer:
    """Describe an input's "shape", "strides" (in elements) or "ndim" as a buffer, whose memory `keep` then holds."""
    every: dict[str, npt.NDArray[Any]] = {
        "shape": np.array(memory.shape, dtype=np.int32),
        "strides": np.array([s // memory.itemsize for s in memory.strides], dtype=np.int64),
        "ndim": np.array([memory.ndim], dtype=np.int32),
    }
    facts = every[role]
    keep.append(facts)
    return Buffer(name, facts.ctypes.data, facts.nbytes, facts.itemsize, INPUT)


def output_buffer(name: str, memory: npt.NDArray[Any], dtype: mx.Dtype, *, initialized: bool) -> Buffer:
    """Describe an output's memory."""
    floating = mx.issubdtype(dtype, mx.floating)
    return Buffer(
        name, memory.ctypes.data, memory.nbytes, memory.itemsize, OUTPUT, initialized=initialized, floating=floating
    )


def output(shape: Sequence[int], dtype: mx.Dtype, init_value: float | None) -> npt.NDArray[Any]:
    """Make memory for an output, filled with `init_value`, else with bytes (NaN) that show where nothing is written."""
    if init_value is not None:
        filled = mx.full(tuple(shape), init_value, dtype=dtype)
        filled = filled.view(mx.uint16) if dtype == mx.bfloat16 else filled
        return np.array(filled)
    out: npt.NDArray[Any] = np.empty(tuple(shape), dtype=_NUMPY[dtype])
    if out.size:
        out.reshape(-1).view(np.uint8)[:] = 0 if dtype == mx.bool_ else 0xFF
    return out


def result(out: npt.NDArray[Any], dtype: mx.Dtype) -> mx.array:
    """Return an output's memory as an array."""
    array = mx.array(out)
    return array.view(mx.bfloat16) if dtype == mx.bfloat16 else array
