"""Threads that a threadgroup of each kernel's pipeline takes: what registers leave room for on this GPU.

MLX has no function that tells. But it compares a launch's threads with the pipeline's limit before anything runs, and
the error it raises names the limit: so each kernel is asked for more threads than any pipeline takes. It is compiled
once more for that, without the bound that tells the compiler how many threads to fit its registers to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import mlx.core as mx

from .engine import SIMD, Engine, Launch

TOO_MANY_THREADS = 2048
"""More than any pipeline takes: Metal's own limit is 1024 threads a threadgroup."""


class Limit(NamedTuple):
    """One compiled kernel: the threads it is launched with, and the most its pipeline takes (None: not told)."""

    kernel: str
    threads: int
    most: int | None


class Measuring(Engine):
    """An engine that also finds the limit of every kernel that it builds; `limits` holds them."""

    def __init__(self, build: Callable[..., Any], options: Mapping[str, Any] | None = None) -> None:
        super().__init__(build, options, probe=True)
        self.limits: list[Limit] = []

    def _fitting(self, launch: Launch) -> tuple[Any, int]:
        kernel, simdgroups = super()._fitting(launch)
        values = [str(value).rpartition(".")[2] for _, value in launch.constants]
        switches = [name.lower() for name, on in launch.defines.items() if on]
        name = " ".join([launch.file.removesuffix(".metal"), *values, *switches])
        self.limits.append(Limit(name, simdgroups * SIMD or launch.threads, self._most(launch, simdgroups)))
        return kernel, simdgroups

    def _most(self, launch: Launch, simdgroups: int) -> int | None:
        zeros = [mx.zeros(a.shape, dtype=a.dtype) for a in launch.inputs.values()]
        kernel = self._make(launch, simdgroups, bound=False)
        sizes = {"grid": (TOO_MANY_THREADS, 1, 1), "threadgroup": (TOO_MANY_THREADS, 1, 1)}
        try:
            mx.eval(kernel(inputs=zeros, **(self._arguments(launch, simdgroups) | sizes)))
        except (RuntimeError, ValueError) as e:
            told = re.search(r"allowed threads per threadgroup \((\d+)\)", str(e))
            return int(told[1]) if told else None
        return None
