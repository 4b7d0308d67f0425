"""Calls of one kind are planned once: later ones check nothing twice, and no call runs on the plan of another kind."""

from __future__ import annotations

import functools
import gc
import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import pytest

from kernels import metal
from kernels.metal.choices import NORMS, Route
from reference.contract import Norm, Packed, Prefix

from ...strategies import Random

Call = Callable[[metal.MetalOps], object]
Log = list[tuple[Any, ...]]

GROUP, K, HEADS, DIM = 32, 64, 2, 16


def launches_of(call: Call, ops: metal.MetalOps, log: Log) -> Log | str:
    """Return what a call launches, or the error that it raises."""
    log.clear()
    try:
        call(ops)
    except (ValueError, TypeError) as e:
        return str(e)
    return list(log)


def new(choices: metal.Choices | None = None) -> tuple[metal.MetalOps, Log]:
    """Return operations whose launches are noted, not run: kernel, grid, result, and what it is given."""
    log: Log = []
    return metal.MetalOps("interpreter", metal.Engine(functools.partial(noted, log), choices=choices)), log


def noted(log: Log, **options: Any) -> Any:
    """Build a kernel whose launches are put into a log and give zeros."""

    def launch(inputs: list[mx.array], **a: Any) -> list[mx.array]:
        given = [(x.shape, str(x.dtype)) for x in inputs]
        log.append((options["name"], a["grid"], a["threadgroup"], a["output_shapes"], a["output_dtypes"], given))
        return [mx.zeros(s, dtype=t) for s, t in zip(a["output_shapes"], a["output_dtypes"])]

    return launch


R = Random(0)
MATRIX = Packed(*R.packed(HEADS * DIM, K, group_size=GROUP, bits=4, dtype=mx.float16).values())
NORM = Norm(R.normal(K), R.normal(K))
Q, KV = R.normal(2, HEADS, 1, DIM), R.normal(2, HEADS, 9, DIM)
PREFIX = Prefix(R.normal(1, HEADS, 4, DIM), R.normal(1, HEADS, 5, DIM), R.normal(1, HEADS, 5, DIM), mx.array([0.5]))

ARGUMENTS: dict[str, dict[str, Any]] = {
    "int4_matmul": {
        "x": R.normal(2, 1, K), "w": MATRIX, "norm": NORM, "bias": R.normal(HEADS * DIM),
        "residual": R.normal(2, 1, HEADS * DIM), "activation": "gelu",
    },
    "cross_attention": {
        "x": R.normal(2, 1, K), "w": MATRIX, "k": KV[:1], "v": KV[:1] + 0, "norm": NORM, "scale": 0.25,
    },
    "prefix_attention": {
        "q": Q, "k": KV, "v": KV + 0, "prefix_q": PREFIX.q[:, :, :1], "prefix_k": PREFIX.k, "prefix_v": PREFIX.v,
        "gate": PREFIX.gate, "scale": 0.25, "length": 6,
    },
    "self_attention": {
        "qkv": R.normal(2, 1, 3 * HEADS * DIM), "cache": R.normal(2, 2, HEADS, 9, DIM), "position": 3,
        "prefix": PREFIX, "scale": 0.25, "rows": slice(None), "query_row": 1,
    },
}  # fmt: skip


def other_arrays(a: mx.array) -> Iterator[mx.array]:
    """Yield arrays that differ in one axis, in the number of axes, or in their type."""
    for axis, n in enumerate(a.shape):
        yield mx.zeros((*a.shape[:axis], n + 1, *a.shape[axis + 1 :]), dtype=a.dtype)
        yield mx.zeros((*a.shape[:axis], 2 * n, *a.shape[axis + 1 :]), dtype=a.dtype)
    yield mx.zeros((*a.shape, 1), dtype=a.dtype)
    yield mx.zeros((1, *a.shape), dtype=a.dtype)
    for dtype in (mx.float16, mx.bfloat16, mx.float32, mx.int32):
        if dtype != a.dtype:
            yield a.astype(dtype)


def others(value: Any) -> Iterator[Any]:
    """Yield values that an argument could have instead."""
    if isinstance(value, mx.array):
        yield from other_arrays(value)
    elif isinstance(value, (Norm, Prefix)):
        for name, part in value._asdict().items():
            yield from (value._replace(**{name: each}) for each in others(part))
        yield None
    elif isinstance(value, int):
        yield from (-1, 0, value + 1, 8, 9, 10)
    elif isinstance(value, slice):
        yield from (slice(0, 1), slice(None, None, 2))
    elif isinstance(value, str):
        yield from (None, "relu")


def ready(name: str, ops: metal.MetalOps, arguments: dict[str, Any]) -> Call:
    """Return a call on arguments of its own, whose matrix is prepared for it."""
    given = dict(arguments)
    if "w" in given:
        given["w"] = ops.pack(given["w"])
    if "cache" in given:
        given["cache"] = given["cache"] + 0
    return lambda ops: getattr(ops, name)(**given)


@pytest.mark.parametrize(
    ("name", "norm"),
    [(name, norm) for name, given in ARGUMENTS.items() for norm in (NORMS if "norm" in given else NORMS[:1])],
)
def test_a_call_of_another_kind_does_not_run_on_a_plan(name: str, norm: Any) -> None:
    """Whatever was planned before, each call launches what a new engine launches, or raises what that raises."""
    planned, log = new(metal.Choices(norm=norm))
    good = ARGUMENTS[name]
    weight = planned.pack(MATRIX)
    changes: list[dict[str, Any]] = [{}]
    for argument, value in good.items():
        changes += [{argument: other} for other in others(value)]
    changes += [{argument: None} for argument in good if argument in ("bias", "residual", "norm")]
    refused, launched = set[str](), 0
    for change in [*changes, *changes]:  # the second time all plans are there
        own = {**good, **change, **({"w": weight} if "w" in good else {})}
        if "cache" in own:
            own["cache"] = own["cache"] + 0
        call: Call = lambda ops, own=own: getattr(ops, name)(**own)  # noqa: E731
        fresh, fresh_log = new(metal.Choices(norm=norm))
        expected = launches_of(ready(name, fresh, {**good, **change}), fresh, fresh_log)
        assert launches_of(call, planned, log) == expected, change
        if isinstance(expected, str):
            refused.add(expected)
        launched += isinstance(expected, list) and len(expected) > 0
    assert len(refused) > 5 and launched > 5


def test_a_plan_is_made_anew_where_choices_change() -> None:
    ops, log = new()
    call = ready("int4_matmul", ops, ARGUMENTS["int4_matmul"])
    call(ops)
    ops.engine.choose(metal.Choices(outputs=2))
    call(ops)
    (before, *_), (after, *_) = log
    assert "_R_4_" in before and "_R_2_" in after
    ops.engine.choose(metal.Choices(stock=(Route("int4_matmul", 1, 8),)))
    assert launches_of(call, ops, log) == []


def test_the_steps_of_a_window_check_what_does_not_change_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer, 4 steps: each operation's arguments are checked at the first of them."""
    checks = {"int4_matmul": 0, "cross_attention": 0, "self_attention": 0}

    def counted(name: str, check: Callable[..., Any]) -> Callable[..., Any]:
        def count(*a: Any) -> Any:
            checks[name] += 1
            return check(*a)

        return count

    for name in checks:
        module = importlib.import_module(f"kernels.metal.{name}")
        monkeypatch.setattr(module, f"check_{name}", counted(name, getattr(module, f"check_{name}")))
    ops, _ = new()
    calls = [ready(name, ops, ARGUMENTS[name]) for name in ("int4_matmul", "cross_attention")]
    attention = ARGUMENTS["self_attention"] | {"cache": ARGUMENTS["self_attention"]["cache"] + 0}
    for position in range(2, 6):
        ops.self_attention(**attention | {"position": position, "query_row": position - 2})
        for call in calls:
            call(ops)
    assert checks == {"int4_matmul": 1, "cross_attention": 1, "self_attention": 1}
    for wrong in ({"position": 9}, {"position": -1}, {"query_row": 4}, {"query_row": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ops.self_attention(**attention | wrong)


def test_nothing_is_planned_or_launched_while_kernels_are_looked_for() -> None:
    """Plans made then would give zeros later, and plans that are there would launch."""
    log: Log = []
    ops = metal.MetalOps("interpreter", metal.Engine(functools.partial(noted, log), probe=True))
    weight = ops.pack(MATRIX)
    for name, arguments in ARGUMENTS.items():
        own = arguments | ({"w": weight} if "w" in arguments else {})
        call = functools.partial(getattr(ops, name), **own)
        log.clear()
        assert len(ops.missing(call)) == (name != "self_attention")  # whose kernel is prefix_attention's
        assert log == []
        for launches in ((2 if name != "self_attention" else 1), 1):  # a probe comes first
            call()
            assert len(log) == launches, name
            log.clear()
        assert ops.missing(call) == [] and log == []


def test_plans_keep_no_arrays() -> None:
    """A prefix or a matrix that its owner lets go of is not kept in memory by what was planned for it."""
    ops, _ = new()
    weight = ops.pack(MATRIX)
    for name, arguments in ARGUMENTS.items():
        own = {**arguments, **({"w": weight} if "w" in arguments else {})}
        getattr(ops, name)(**own)
    assert isinstance(weight, metal.Prepared) and len(weight.plans) == 2 and len(ops.engine.plans) == 2
    seen, left = set[int](), [*weight.plans.values(), *ops.engine.plans.values()]
    while left:
        each = left.pop()
        if id(each) in seen or (callable(each) and not isinstance(each, functools.partial)):
            continue
        seen.add(id(each))
        assert not isinstance(each, mx.array), f"{each.shape} is kept"
        left += gc.get_referents(each)
    assert len(seen) > 4


def test_the_number_of_plans_does_not_grow_with_values() -> None:
    ops, _ = new()
    attention = ARGUMENTS["prefix_attention"]
    for length in range(1, 9):
        ops.prefix_attention(**attention | {"length": length, "scale": 1 / math.sqrt(length)})
    assert len(ops.engine.plans) == 1
