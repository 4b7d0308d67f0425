"""A packed product by ggml, the library under llama.cpp, from an installed llama-cpp-python: its C interface by ctypes.

Q4_0 holds the numbers of a matrix without an offset exactly: blocks of 32 codes less 8, each with a float16 scale, so
that a group of 64 becomes two blocks of one scale. Weights lie in the buffer that ggml reorders for the CPU's
instructions, if it has one (`CPU_REPACK`), as llama.cpp puts them; its products round the activations to int8 in blocks
of 32.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable, Sequence
from ctypes import CDLL, POINTER, Structure, c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.system.machine import cores
from reference.contract import Packed

F32, Q4_0 = 0, 2
"""Values of `ggml_type` (ggml.h)."""
BLOCK = 32
OUTPUTS = 8
"""Rows of a matrix that ggml interleaves where it reorders on x86-64; the widest of all processors' but RISC-V's."""
HEADERS = 1 << 20
"""Bytes of a context for its tensors' headers, besides those of the graph; the tensors' data lie elsewhere."""

Floats = npt.NDArray[np.float32]


class _Parameters(Structure):
    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]  # ggml_init_params


class Library:
    """The functions of ggml that a product takes."""

    def __init__(self, folder: Path) -> None:
        """Load the functions. Raises OSError or AttributeError if they are not those of ggml.h."""
        suffix = ".dylib" if sys.platform == "darwin" else ".so"
        self.base = CDLL(str(folder / f"libggml-base{suffix}"), mode=ctypes.RTLD_GLOBAL)
        self.cpu = CDLL(str(folder / f"libggml-cpu{suffix}"), mode=ctypes.RTLD_GLOBAL)
        pointer = c_void_p
        base: dict[str, tuple[Any, ...]] = {  # the result, then the arguments
            "ggml_init": (pointer, _Parameters),
            "ggml_tensor_overhead": (c_size_t,),
            "ggml_graph_overhead_custom": (c_size_t, c_size_t, c_bool),
            "ggml_new_tensor_2d": (pointer, pointer, c_int, c_int64, c_int64),
            "ggml_mul_mat": (pointer, pointer, pointer, pointer),
            "ggml_new_graph_custom": (pointer, pointer, c_size_t, c_bool),
            "ggml_build_forward_expand": (None, pointer, pointer),
            "ggml_backend_alloc_ctx_tensors_from_buft": (pointer, pointer, pointer),
            "ggml_backend_cpu_buffer_type": (pointer,),
            "ggml_backend_buft_name": (c_char_p, pointer),
            "ggml_backend_get_device": (pointer, pointer),
            "ggml_backend_dev_backend_reg": (pointer, pointer),
            "ggml_backend_reg_get_proc_address": (pointer, pointer, c_char_p),
            "ggml_backend_tensor_set": (None, pointer, pointer, c_size_t, c_size_t),
            "ggml_backend_tensor_get": (None, pointer, pointer, c_size_t, c_size_t),
            "ggml_backend_graph_compute": (c_int, pointer, pointer),
        }
        cpu: dict[str, tuple[Any, ...]] = {
            "ggml_backend_cpu_init": (pointer,),
            "ggml_backend_cpu_set_n_threads": (None, pointer, c_int),
        }
        for library, functions in ((self.base, base), (self.cpu, cpu)):
            for name, (result, *arguments) in functions.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
                setattr(self, name.removeprefix("ggml_"), function)

    def __getattr__(self, name: str) -> Callable[..., Any]:  # those that __init__ sets
        raise AttributeError(f"ggml has no {name}")

    def context(self, tensors: int, graph: int = 0) -> int:
        """Return a context for the headers of so many tensors, and of a graph of so many nodes and leaves."""
        room = HEADERS + tensors * self.tensor_overhead() + self.graph_overhead_custom(max(graph, 1), False)
        return int(self.init(_Parameters(room, None, True)))

    def weights_buffer(self, backend: int) -> tuple[int, str]:
        """Return the kind of buffer for weights, and its name: the reordering one where there is one."""
        device = self.backend_get_device(backend)
        found = self.backend_reg_get_proc_address(
            self.backend_dev_backend_reg(device), b"ggml_backend_dev_get_extra_bufts"
        )
        kinds: list[int] = []
        if found:
            extra = ctypes.CFUNCTYPE(POINTER(c_void_p), c_void_p)(found)(device)
            while extra and extra[len(kinds)]:
                kinds.append(extra[len(kinds)])
        names = {self.backend_buft_name(kind).decode(): kind for kind in kinds}
        plain = self.backend_cpu_buffer_type()
        return names.get("CPU_REPACK", plain), "CPU_REPACK" if "CPU_REPACK" in names else "CPU"


def q4_0(matrix: Packed) -> npt.NDArray[np.uint8]:
    """Return a 4-bit matrix whose biases are -8 times its scales as ggml's `block_q4_0`: bytes [n, 18 k / 32].

    A block is its float16 scale and 16 bytes: codes 0 to 15 in their low halves, 16 to 31 in their high ones.
    """
    words, scales = np.array(matrix.w), np.array(matrix.scales).astype(np.float16)
    n, blocks = words.shape[0], words.shape[1] * 8 // BLOCK
    nibbles = words.view(np.uint8).reshape(n, blocks, BLOCK // 2)
    codes = np.stack([nibbles & 15, nibbles >> 4], axis=-1).reshape(n, blocks, BLOCK)
    halves = codes[..., : BLOCK // 2] | codes[..., BLOCK // 2 :] << 4
    repeated = np.repeat(scales, matrix.group_size // BLOCK, axis=1)[..., None].view(np.uint8).reshape(n, blocks, 2)
    return np.ascontiguousarray(np.concatenate([repeated, halves], axis=-1).reshape(n, -1))


def products(matrices: Sequence[Packed], inputs: Sequence[Floats]) -> tuple[Callable[[Floats], Floats], dict[str, str]]:
    """Return a function that multiplies each of `inputs`, float32 [m, k], by all matrices, and what computes it.

    The function returns the first matrix's product, float32 [m, n]. Its matrices and buffers stay in memory until the
    process ends.
    """
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None and spec.origin is not None  # else `unavailable`
    lib = Library(Path(spec.origin).parent / "lib")
    backend = lib.backend_cpu_init()
    lib.backend_cpu_set_n_threads(backend, cores())
    (n, k), copies = (matrices[0].w.shape[0], matrices[0].w.shape[1] * 8), len(matrices)
    buffer, name = lib.weights_buffer(backend)
    if n % OUTPUTS:
        buffer, name = lib.backend_cpu_buffer_type(), "CPU"

    stored = lib.context(copies)
    weights = [lib.new_tensor_2d(stored, Q4_0, k, n) for _ in matrices]
    if not lib.backend_alloc_ctx_tensors_from_buft(stored, buffer):
        raise MemoryError("ggml has no memory for the matrices")
    for tensor, matrix in zip(weights, matrices):
        blocks = q4_0(matrix)
        lib.backend_tensor_set(tensor, blocks.ctypes.data, 0, blocks.nbytes)

    plans = {}
    for x in inputs:
        size = 2 * copies + 1
        context = lib.context(size, graph=size)
        given = lib.new_tensor_2d(context, F32, k, len(x))
        results = [lib.mul_mat(context, w, given) for w in weights]
        graph = lib.new_graph_custom(context, size, False)
        for result in results:
            lib.build_forward_expand(graph, result)
        if not lib.backend_alloc_ctx_tensors_from_buft(context, lib.backend_cpu_buffer_type()):
            raise MemoryError("ggml has no memory for the results")
        plans[len(x)] = given, graph, results[0]

    def multiply(x: Floats) -> Floats:
        given, graph, result = plans[len(x)]
        x, y = np.ascontiguousarray(x), np.empty((len(x), n), np.float32)
        lib.backend_tensor_set(given, x.ctypes.data, 0, x.nbytes)
        if status := lib.backend_graph_compute(backend, graph):
            raise RuntimeError(f"ggml computes nothing: status {status}")
        lib.backend_tensor_get(result, y.ctypes.data, 0, y.nbytes)
        return y

    return multiply, {"llama-cpp-python": version("llama-cpp-python"), "buffer": name}


def unavailable() -> str | None:
    """Return why ggml cannot be measured here; None where it can."""
    if importlib.util.find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed; pip install llama-cpp-python builds it (minutes, a C++ compiler)"
    return None
