"""Whether a backend's result is right: against the same sum in float64, and against the reference's result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

import reference
from kernels import OPERATIONS
from reference import bounds, forms, oracle, tolerance
from reference.contract import Ops
from reference.precision import on_cpu

INPUTS = ("x", "q", "qkv")
"""What an operation's first argument is called."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one call. `problem` is "" if it is right; `error` is the relative error."""

    backend: str
    operation: str
    case: str
    problem: str
    error: float


def activation_bits(ops: Ops) -> int | None:
    """Return the precision of activations that a backend declares for its packed products."""
    if ops.name != "native":
        return None
    from kernels import native

    return {"int16": 16, "int8": 8}.get(native.info()["activations"])


def call(ops: Ops, operation: str, arguments: Mapping[str, Any], case: str) -> Finding:
    """Run one call on a backend and judge it by `reference.oracle`; an exception is a finding too."""
    wanted = _parts(getattr(oracle, operation)(**{**arguments, **_numbers(arguments)}))
    bound = bounds.bound(operation, arguments, wanted[0], activation_bits(ops))
    try:
        results = _parts(getattr(ops, operation)(**arguments))
        mx.eval(results)
    except Exception as e:  # whatever a compiler, a driver or a kernel raises is what the report is for
        return Finding(ops.name, operation, case, explain(e), 0)
    dtype = next(arguments[name] for name in INPUTS if name in arguments).dtype
    left_in = arguments["cache"].dtype if "cache" in arguments else mx.float32
    problem, error = judge(ops, operation, results[0], wanted[0], bound, dtype)
    for result, expected in zip(results[1:], wanted[1:], strict=True):
        left, _ = judge(ops, operation, result, expected, bound, left_in, dtype)
        problem = problem or (left and f"the state it leaves: {left}")
    return Finding(ops.name, operation, case, problem, error)


def _parts(given: Any) -> list[Any]:
    """Return an operation's result, and the state that it leaves: an LSTM's, or a cache."""
    return list(given) if isinstance(given, tuple) else [given]


def _result(given: Any) -> Any:
    return _parts(given)[0]


def judge(
    ops: Ops,
    operation: str,
    result: mx.array,
    expected: oracle.Float64,
    bound: oracle.Float64,
    dtype: mx.Dtype,
    precision: mx.Dtype | None = None,
) -> tuple[str, float]:
    """Return what is wrong with a result, or "" and its relative error: the 2-norm of the difference over the result's.

    No element may be off by more than `bound`, which is what arithmetic allows at worst; so that a few per cent of one
    term show too, the relative error may be `RELATIVE` roundings of the dtype, far more than right results have.
    `precision` is the dtype that the sums were made from, if that is not the result's.
    """
    precision, least = precision or dtype, RELATIVE * EXACT
    if precision == mx.float32 and not on_cpu() and operation not in ("int4_matmul", "prefix_attention"):
        # MLX's own float32 products are TF32 on the newest GPUs, which keeps as many bits as float16.
        precision = mx.float16
        bound = bound * (tolerance.EPS[mx.float16] / tolerance.EPS[mx.float32])
    if activation_bits(ops) == 8:
        least = 0.1  # 0.6 % a product, and attention on top of it
    if problem := tolerance.problem(result, expected, bound, dtype=dtype):
        return problem, 0.0
    norm = float(np.linalg.norm(expected))
    error = float(np.linalg.norm(oracle.float64(result) - expected)) / norm if norm else 0.0
    allowed = RELATIVE * tolerance.EPS[precision] + least
    return ("" if error <= allowed else f"relative error {error:.1e}, at most {allowed:.1e} is right"), error


RELATIVE = 5
EXACT = 2e-5
"""The relative error of a product of float32 activations, which native rounds to 16 bits."""


def _numbers(arguments: Mapping[str, Any]) -> dict[str, Any]:
    length = arguments.get("length")
    return {"length": int(np.array(length).item())} if isinstance(length, mx.array) else {}


def explain(e: Exception) -> str:
    """Return what was raised, in one line."""
    return f"raised {type(e).__name__}: {' '.join(str(e).split())[:300] or 'no message'}"


class Watched:
    """A backend's operations, each call of which is held against the reference's result for the same arguments.

    The backend's result goes on, so what it makes of an edit is not changed. `problems` holds the first finding of
    each operation that is off, in the order of the calls.
    """

    def __init__(self, ops: Ops) -> None:
        self.ops, self.name = ops, ops.name
        self.calls = 0
        self.problems: dict[str, Finding] = {}
        self._bits = activation_bits(ops)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.ops, name)
        if name in OPERATIONS:
            attribute = self._watched(name, attribute)
            setattr(self, name, attribute)
        return attribute

    def _watched(self, operation: str, function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(getattr(reference, operation))

        def watched(*args: Any, **kwargs: Any) -> Any:
            arguments = forms.in_parts(signature.bind(*args, **kwargs).arguments)
            self.calls += 1
            result = function(*args, **kwargs)
            if operation not in self.problems:
                self._judge(operation, arguments, result)
            return result

        return watched

    def _judge(self, operation: str, arguments: Mapping[str, Any], result: Any) -> None:
        given = {name: value for name, value in arguments.items() if value is not None}
        right, result = _result(getattr(reference, operation)(**given)), _result(result)
        expected = oracle.float64(right)
        # Both may be off by the bound, in opposite directions.
        bound = 2 * bounds.bound(operation, {**given, **_numbers(given)}, expected, self._bits)
        problem, _ = judge(self.ops, operation, result, expected, bound, right.dtype)
        if problem:
            x = next(given[name] for name in INPUTS if name in given)
            case = f"call {self.calls} of a short edit, {list(x.shape)} {str(x.dtype).rpartition('.')[2]}"
            self.problems[operation] = Finding(self.name, operation, case, problem, 0)
