"""Launch kernels of MLX's headers in check mode, and compare with what numpy says is right.

The compilers take turns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from kernels.beside_mlx.mlx_kernels import header
from kernels.interpreter import compilers
from kernels.interpreter.kernel import MetalKernel

from .declared import call

Wide = npt.NDArray[np.float64]


F16, BF16, F32 = mx.float16, mx.bfloat16, mx.float32


EPS = {F16: 2.0**-11, BF16: 2.0**-8, F32: 2.0**-24}


QUANTIZED = ("quantized_utils.h", "steel/gemm/gemm.h", "quantized.h")


ATOMIC = ("atomic.h", "reduction/ops.h")


Size = tuple[int, int, int]


class Case(NamedTuple):
    """A launch of `kernel<template>`; `error` bounds the difference from `right`.

    also: of further outputs by name, their dtype and what is right, within the same error.
    """

    headers: tuple[str, ...]
    kernel: str
    template: str
    given: dict[str, Any]
    dtype: Any
    right: Any
    grid: Size
    threads: Size
    error: float = 0
    out: str = "out"
    before: str = ""
    texts: Mapping[str, str] = MappingProxyType({})
    constants: Mapping[str, str] = MappingProxyType({})
    init: float | None = None
    also: Mapping[str, tuple[Any, Any]] = MappingProxyType({})


def run(case: Case, index: int, folder: Path, *, plant: tuple[str, str] | None = None) -> MetalKernel:
    """Raises KernelFault; the result is compared with what is right. plant: what to replace in the headers."""
    text = header(*case.headers, folder=folder)
    if plant:
        assert plant[0] in text
        text = text.replace(*plant)
    for name, value in case.constants.items():
        before, _, rest = text.partition(f" {name} [[function_constant(")
        text = f"{before} {name} = {value}" + rest[rest.index("]]") + 2 :]
    outputs = {case.out: (case.dtype, case.right), **case.also}
    statement, inputs = call(text, case.kernel, case.template, case.given, outputs, case.texts)
    using = compilers()[index % len(compilers())]
    source = case.before + statement
    names = [f"{name}_" for name in outputs]
    kernel = MetalKernel(f"mlx_{case.kernel}", list(inputs), names, source, text, using=using)
    results = kernel(
        inputs=list(inputs.values()),
        grid=case.grid,
        threadgroup=case.threads,
        output_shapes=[np.shape(right) for _, right in outputs.values()],
        output_dtypes=[dtype for dtype, _ in outputs.values()],
        check=True,
        seed=index,
        init_value=case.init,
    )
    for y, (dtype, right) in zip(results, outputs.values()):
        got = np.array(y) if dtype not in (F16, BF16) else wide(y)
        assert (np.abs(got - right) <= case.error).all(), np.abs(got - right).max()
    return kernel


def wide(a: mx.array) -> Wide:
    return np.array(a.astype(mx.float32)).astype(np.float64)


def normal(*shape: int, dtype: Any = F32, seed: int = 0) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def attention(q: mx.array, k: mx.array, v: mx.array) -> Wide:
    scores = wide(q) @ np.swapaxes(wide(k), -1, -2) / math.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)) @ wide(v)


def product(a: Any, b: Any) -> float:
    """A bound of the error of float32's a @ b."""
    return 4 * a.shape[-1] * EPS[F32] * float((np.abs(a) @ np.abs(b)).max())
