"""One packed matrix times some rows, cold, in our backend, onnxruntime and ggml: the columns of the products' table.

The matrix is quantized without an offset (bias = -8 scale), which both can hold, so that all multiply the same numbers.
Each call multiplies by copies of it that together exceed the cache, as a decode step reads one matrix after another
(of a tiny matrix by as many as a graph can hold without taking minutes to build).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

import kernels
from kernels.cases import Draw
from model.errors import UserError
from model.system.machine import cache_bytes, cores
from reference import oracle
from reference.contract import Packed

from ..processes.child import Child
from ..processes.turns import Turns
from ..results import ProductColumn
from ..stats import Samples
from . import ggml

GROUP = 64
CALLS_A_ROUND = 5
"""Calls of a round, each over all copies of the matrix."""
MAX_BYTES, MAX_COPIES = 256 << 20, 256
ACCURACY_LEVELS = {"int8": 4, "float32": 1}
"""The accuracy level of MatMulNBits for each kind of activations that it rounds to."""

Floats = npt.NDArray[np.float32]


class Products:
    """A column of products: `multiply(x)` returns the result of each copy of the matrix, evaluated."""

    def __init__(
        self, multiply: Callable[[Floats], Floats], inputs: dict[int, Floats], copies: int, calls: int
    ) -> None:
        self.multiply, self.inputs, self.copies, self.calls = multiply, inputs, copies, calls

    def round(self) -> dict[str, list[float]]:
        """Return the seconds of one product, by number of rows."""
        return {str(m): [self._seconds(x) for _ in range(self.calls)] for m, x in self.inputs.items()}

    def _seconds(self, x: Floats) -> float:
        start = time.perf_counter()
        self.multiply(x)
        return (time.perf_counter() - start) / self.copies


def _given(n: int, k: int, rows: list[int]) -> tuple[list[Packed], dict[int, Floats]]:
    """Return the copies of the matrix, each of its own numbers, and an input for each number of rows."""
    draw = Draw()
    copies = max(1, min(min(4 * cache_bytes(), MAX_BYTES) // (n * k // 2), MAX_COPIES))
    drawn = (draw.packed(n, k, 4, GROUP) for _ in range(copies))
    matrices = [replace(w, biases=-8 * w.scales) for w in drawn]
    return matrices, {m: draw.rng.standard_normal((m, k), dtype=np.float32) for m in rows}


def _column(
    multiply: Callable[[Floats], Floats], matrices: list[Packed], inputs: dict[int, Floats], calls: int, **about: Any
) -> tuple[Products, dict[str, Any]]:
    errors, first = {}, vars(matrices[0])
    for m, x in inputs.items():
        want = oracle.int4_matmul(mx.array(x), **first)
        errors[str(m)] = float(np.linalg.norm(multiply(x) - want) / np.linalg.norm(want))
    return Products(multiply, inputs, len(matrices), calls), {"errors": errors, "copies": len(matrices), **about}


def ours(n: int, k: int, rows: list[int], calls: int, backend: str) -> tuple[Products, dict[str, Any]]:
    """Make our column: the products of one graph."""
    ops = kernels.load(backend)
    matrices, inputs = _given(n, k, rows)
    packed = [ops.pack(matrix) for matrix in matrices]
    mx.eval([p.arrays() for p in packed])

    def multiply(x: Floats) -> Floats:
        given = mx.array(x)
        results = [ops.int4_matmul(given, p) for p in packed]
        mx.eval(results)
        return np.array(results[0])

    return _column(multiply, matrices, inputs, calls, ran_on=ops.name)


def onnxruntime(n: int, k: int, rows: list[int], calls: int, activations: str) -> tuple[Products, dict[str, Any]]:
    """Make onnxruntime's column: a graph of MatMulNBits nodes that share their input."""
    import onnx
    import onnxruntime as runtime
    from onnx import TensorProto, helper, numpy_helper

    matrices, inputs = _given(n, k, rows)
    nodes, constants, outputs = [], [], []
    for i, matrix in enumerate(matrices):
        names = ["x", f"codes{i}", f"scales{i}"]
        codes = np.array(matrix.w).view(np.uint8).reshape(n, k // GROUP, GROUP // 2)
        constants.append(numpy_helper.from_array(codes, names[1]))
        constants.append(numpy_helper.from_array(np.array(matrix.scales, dtype=np.float32).reshape(-1), names[2]))
        nodes.append(
            helper.make_node(
                "MatMulNBits", names, [f"y{i}"], domain="com.microsoft", K=k, N=n, bits=4, block_size=GROUP,
                accuracy_level=ACCURACY_LEVELS[activations],
            )
        )  # fmt: skip
        outputs.append(helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ["M", n]))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["M", k])
    graph = helper.make_graph(nodes, "products", [given], outputs, constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    options = runtime.SessionOptions()
    options.intra_op_num_threads = cores()
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def multiply(x: Floats) -> Floats:
        return np.asarray(session.run(None, {"x": x})[0], dtype=np.float32)

    versions = {"onnxruntime": runtime.__version__, "onnx": onnx.__version__}
    return _column(multiply, matrices, inputs, calls, versions=versions)


def ggml_q4_0(n: int, k: int, rows: list[int], calls: int) -> tuple[Products, dict[str, Any]]:
    """Make ggml's column: a graph of products that share their input."""
    matrices, inputs = _given(n, k, rows)
    multiply, versions = ggml.products(matrices, list(inputs.values()))
    return _column(multiply, matrices, inputs, calls, versions=versions)


def unavailable() -> str | None:
    """Return why onnxruntime cannot be measured here; None where it can."""
    missing = [name for name in ("onnxruntime", "onnx") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed; pip install 'instruct-musicgen-mlx[bench]'" if missing else None


def check_rows(text: str) -> list[int]:
    """Return the numbers of rows in "1,2,4". Raises UserError if one is not from 1 to 1024."""
    try:
        rows = [int(part) for part in text.split(",")]
    except ValueError:
        rows = [0]
    if not all(1 <= m <= 1024 for m in rows):
        raise UserError(f"--rows {text} is not a list of numbers from 1 to 1024; write them as in --rows 1,2,4")
    return list(dict.fromkeys(rows))


def measured(
    matrix: tuple[int, int], rows: list[int], backend: str, repeat: int, left_out: dict[str, str]
) -> list[ProductColumn]:
    """Measure a matrix [n, k] by each number of rows; `left_out` gets the reason for each missing column."""
    n, k = matrix
    if k % GROUP:
        left_out["the product"] = f"the matrix has {k} columns, which is not a multiple of {GROUP}"
        return []
    asked = {"n": n, "k": k, "rows": rows, "calls": CALLS_A_ROUND}
    with Turns(ProductColumn, dict[str, Samples]) as turns:
        turns.start(Child("ours"), f"{__name__}:ours", asked | {"backend": backend}, left_out)
        if reason := unavailable():
            left_out["onnxruntime"] = reason
        for kind in ACCURACY_LEVELS if not reason else ():
            own = asked | {"activations": kind}
            turns.start(Child(f"onnxruntime, {kind}"), f"{__name__}:onnxruntime", own, left_out)
        if reason := ggml.unavailable():
            left_out["ggml"] = reason
        else:
            turns.start(Child("ggml, Q4_0"), f"{__name__}:ggml_q4_0", asked, left_out)
        for turn in range(repeat):
            turns.round(turn)
    return turns.columns
