"""`doctor` passes on this machine, and names the backend and the operation of every fault that is planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

import kernels
import reference
from kernels import native
from model.cli import main
from model.doctor import cases, examine
from model.doctor.edit import FRAMES, EditCheck, compare
from model.doctor.judge import Watched, call
from tests import backends

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("native" in backends.missing(), reason="native is what the faults are planted in"),
]

Operation = Callable[..., Any]
SOUND = EditCheck("native", 28, None, 0.0, 1, ())


def fails(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[str, str]:
    """stdout, and the last line of stderr of a `doctor` that exits with 1."""
    capfd.readouterr()
    assert main(["doctor", "--backend", "native", *argv]) == 1
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return out, err.splitlines()[-1]


def test_a_sound_machine_passes(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--backend", "native", "--backend", "reference"]) == 0
    out, err = capfd.readouterr()
    assert "came out right on: native, reference" in out and "has the reference's tokens" in out
    assert "mlx 0." in out and "memory: " in out and "Thread limits of Metal's pipelines" in out
    assert all(f"| {operation} |" in out for operation in kernels.OPERATIONS)
    assert "checking native: prefix_attention" in err and "checking native: a short edit" in err


def test_json_holds_all_of_it(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "compare", lambda ops: SOUND)
    assert main(["doctor", "--backend", "native", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["ok"] is True and found["backends"][0]["name"] == "native"
    assert set(found["backends"][0]["error"]) == set(kernels.OPERATIONS)
    assert {"versions", "hardware", "memory", "limits"} <= set(found)


def test_every_operation_has_cases_of_every_dtype() -> None:
    seen = {(case.operation, case.dtype) for case in cases.cases()}
    assert seen == {(operation, dtype) for operation in kernels.OPERATIONS for dtype in cases.DTYPES}


def times(result: Any, factor: float) -> Any:
    """A result scaled; of an LSTM or a cache without the state after it."""
    return (result[0] * factor, result[1]) if isinstance(result, tuple) else result * factor


def scaled(plain: Operation) -> Operation:
    return lambda *a, **k: times(plain(*a, **k), 1.01)


def raising(plain: Operation) -> Operation:
    def call(*a: Any, **k: Any) -> mx.array:
        raise RuntimeError("no such\nkernel")

    return call


def last_is_nan(plain: Operation) -> Operation:
    def call(*a: Any, **k: Any) -> mx.array:
        y = plain(*a, **k)
        flat = y.reshape(-1)
        return mx.concatenate([flat[:-1], mx.array([float("nan")], dtype=y.dtype)]).reshape(y.shape)

    return call


def without(name: str) -> Callable[[Operation], Operation]:
    return lambda plain: lambda *a, **k: plain(*a, **{key: value for key, value in k.items() if key != name})


def gateless(plain: Operation) -> Operation:
    return lambda *a, **k: plain(**{**k, "gate": 0.0}) if "gate" in k else plain(*a[:6], 0.0, **k)


def every_row(plain: Operation) -> Operation:
    """The rows without text get the first row's result, in place of zeros."""

    def call(*a: Any, **k: Any) -> mx.array:
        y = plain(*a, **k)
        return mx.concatenate([y[:1]] * y.shape[0])

    return call


def half(plain: Operation) -> Operation:
    return lambda *a, **k: plain(*a, **k).astype(mx.float16)


def stateless(plain: Operation) -> Operation:
    return lambda *a, **k: (lambda y, state: (y, mx.zeros_like(state)))(*plain(*a, **k))


FAULTS = {
    "int4_matmul": (scaled, without("norm"), without("residual"), half), "linear": (raising, without("bias"), scaled),
    "self_attention": (scaled, stateless, without("prefix"), without("query_row")),
    "prefix_attention": (gateless, scaled), "cross_attention": (every_row, scaled), "attention": (without("mask"),),
    "conv1d": (without("residual"), last_is_nan), "conv_transpose1d": (last_is_nan,),
    "lstm": (scaled, stateless, without("state")),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "fault"), [(name, fault) for name, all in FAULTS.items() for fault in all])
def test_a_fault_in_an_operation_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, operation: str, fault: Any
) -> None:
    monkeypatch.setattr(native, operation, fault(getattr(native, operation)))
    monkeypatch.setattr(examine, "compare", lambda ops: SOUND)  # its own tests are below
    out, last = fails(capfd)
    assert last.startswith(f"error: backend native: {operation} is wrong on this machine")
    assert f"**native: {operation}**" in out and "came out right" not in out
    assert ("; native: " in last) is False, "a sound operation is accused"


def rarely(when: Callable[[dict[str, Any]], bool]) -> Callable[[Operation], Operation]:
    """A fault of 10 % that only some calls have."""

    def fault(plain: Operation) -> Operation:
        def call(*a: Any, **k: Any) -> Any:
            names = {"self_attention": ("qkv", "cache", "position"), "attention": ("q", "k")}.get(
                plain.__name__, ("x", "w")
            )
            wrong = when({**dict(zip(names, a)), **k})
            return times(plain(*a, **k), 1.1 if wrong else 1.0)

        return call

    return fault


SLOTS = FRAMES + 3
ONLY_IN_EDITS = {
    "self_attention": rarely(lambda a: a["cache"].shape[3] == SLOTS and a["position"] == SLOTS - 3),
    "int4_matmul": rarely(lambda a: a["x"].shape[1:-1] == (FRAMES + 1,)),  # in the adapter
    "lstm": rarely(lambda a: a["x"].shape[1] > 25),
    "conv_transpose1d": rarely(lambda a: a["x"].shape[1] > 25),
    "attention": rarely(lambda a: a["q"].shape[2] == FRAMES + 1),
}


@pytest.mark.parametrize("operation", ONLY_IN_EDITS)
def test_a_fault_that_only_an_edit_meets_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setattr(native, operation, ONLY_IN_EDITS[operation](getattr(native, operation)))
    monkeypatch.setattr(examine, "cases", lambda: [c for c in cases.cases() if c.operation == operation])
    out, last = fails(capfd, "--json")
    assert last.startswith(f"error: backend native: {operation} is wrong on this machine (call ")
    assert json.loads(out)["backends"][0]["problems"][0]["operation"] == operation


def test_a_fault_that_no_watched_call_shows_is_named_as_the_edits() -> None:
    """As a race would: wrong when it runs freely, right when every call is waited for."""
    calls = 0
    plain = native.self_attention

    class Racing:
        name = "native"

        def __getattr__(self, name: str) -> Any:
            return getattr(native, name)

        def self_attention(self, *a: Any, **k: Any) -> tuple[mx.array, mx.array]:
            nonlocal calls
            calls += 1
            out, cache = plain(*a, **k)
            return out * (3 if calls == 40 else 1), cache

    (found,) = compare(Racing()).problems
    assert (found.backend, found.operation) == ("native", "edit")
    assert "tokens differ" in found.problem and "no single call" in found.problem


def test_an_edit_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "cross_attention", raising(native.cross_attention))
    (found,) = compare(native).problems
    assert found.operation == "edit" and found.problem == "raised RuntimeError: no such kernel"


@pytest.mark.backend("interpreter")
def test_a_fault_in_a_metal_kernels_source_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of the kernel is changed, as a compiler's fault would change what it means."""
    ops = kernels.load("interpreter")
    engine = ops.engine  # type: ignore[attr-defined]
    source = engine.source
    gate = "gate["
    assert gate in source("prefix_attention.metal")
    monkeypatch.setattr(engine, "_kernels", {})
    monkeypatch.setattr(engine, "source", lambda file: source(file).replace(gate, "0.9f * gate["))
    wrong = {
        case.operation
        for case in cases.cases()
        if case.operation in ("prefix_attention", "cross_attention") and case.dtype == mx.float32
        and call(ops, case.operation, case.arguments(), case.label).problem
    }  # fmt: skip
    assert wrong == {"prefix_attention"}


def test_the_watch_changes_nothing_and_sees_every_call() -> None:
    watched = Watched(kernels.load("reference"))
    x = mx.random.normal((3, 8))
    assert mx.array_equal(watched.linear(x, x, bias=None), reference.linear(x, x))
    assert watched.calls == 1 and not watched.problems and watched.compute_dtype(mx.float16) == mx.float32


def test_a_backend_that_cannot_run_is_said_so(capfd: pytest.CaptureFixture[str]) -> None:
    if "metal" not in backends.missing():
        pytest.skip("metal runs here")
    assert main(["doctor", "--backend", "metal"]) == 1
    out, err = capfd.readouterr()
    assert "metal: not here" in out and err.splitlines()[-1].startswith("error: --backend metal: ")
