"""The source of `mx.fast.metal_kernel` kernels, run on a CPU with checks that a GPU does not make. See README.md."""

from __future__ import annotations

from .compiler import CompilerError, compilers
from .faults import Counters, Issue, KernelFault
from .kernel import MetalKernel, metal_kernel

__all__ = ["CompilerError", "Counters", "Issue", "KernelFault", "MetalKernel", "compilers", "metal_kernel"]
