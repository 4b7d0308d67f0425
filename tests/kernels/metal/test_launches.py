"""Threads of a launch: few enough for the registers of every chip, and fewer still where a pipeline asks for that."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels import interpreter, metal
from kernels.interpreter.threads import ManyThreads
from kernels.metal.engine import SIMD
from kernels.metal.limits import TOO_MANY_THREADS, Measuring

from .test_metal_checked import CASES

pytestmark = pytest.mark.backend("interpreter")

ALWAYS_FITS = 384
"""The least limit that has been reported of a pipeline on M1 or M2."""

Log = list[tuple[str, int, tuple[int, ...]]]


def limited(limit: int, log: Log) -> Callable[..., Any]:
    """Return a builder of interpreted kernels whose pipelines take at most `limit` threads, told in MLX's words.

    `log` receives the name, the threads and the grid of each launch that was tried.
    """

    def build(**options: Any) -> Any:
        kernel = interpreter.metal_kernel(**options)

        def call(**arguments: Any) -> list[mx.array]:
            threads = int(np.prod(arguments["threadgroup"]))
            log.append((options["name"], threads, arguments["grid"]))
            if threads > limit:
                raise ValueError(
                    f"Thread group size ({threads}) is greater than  the maximum allowed threads per threadgroup "
                    f"({limit})."
                )
            return kernel(**arguments)

        return call

    return build


@pytest.mark.parametrize("name", CASES)
def test_every_launch_fits_the_registers_of_every_chip(name: str) -> None:
    log: Log = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", ManyThreads)
        CASES[name](metal.MetalOps("interpreter", metal.Engine(limited(ALWAYS_FITS, log))))
    assert log
    for kernel, threads, _ in log:
        assert threads <= ALWAYS_FITS
        if kernel.startswith(("prefix_attention_T", "cross_attention")):
            assert threads == 256


@pytest.mark.parametrize("name", ("attention", "text"))
def test_the_tuning_choice_of_512_threads_is_warned_of(name: str) -> None:
    choices = metal.Choices(attention_simdgroups=16)
    with pytest.warns(ManyThreads, match="512 threads in a threadgroup; M1 and M2"):
        CASES[name](metal.MetalOps("interpreter", metal.Engine(interpreter.metal_kernel, choices=choices)))


@pytest.mark.slow
@pytest.mark.parametrize("limit", (128, 100, 64, 32))
@pytest.mark.parametrize("name", CASES)
def test_a_refused_launch_runs_with_fewer_simdgroups(name: str, limit: int) -> None:
    """The result is right, nothing races, one warning says so, and later launches know what was found."""
    tiled = name.startswith("prefill")
    if tiled and limit < 128:
        pytest.skip("tiles are made for 4 simdgroups")
    log: Log = []
    # A probe runs one threadgroup, which leaves the others' outputs unwritten: strict=False forgives that.
    ops = metal.MetalOps("interpreter", metal.Engine(limited(limit, log), {"check": True, "strict": False}, probe=True))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        CASES[name](ops)
    refused = {kernel.split("_SIMDGROUPS")[0] for kernel, threads, _ in log if threads > limit}
    assert len(told) == len(refused)
    for warning in told:
        assert f"({limit})" in str(warning.message) and "threads a threadgroup in place of" in str(warning.message)
    before = len(log)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CASES[name](ops)
    again = log[before:]
    assert all(threads <= limit for _, threads, _ in again)
    assert len({kernel for kernel, *_ in again}) == len(again), "a launch was probed again"


def test_a_probe_runs_one_threadgroup_once() -> None:
    log: Log = []
    ops = metal.MetalOps("interpreter", metal.Engine(limited(1024, log), probe=True))
    CASES["attention"](ops)
    CASES["attention"](ops)
    (name, threads, probed), first, second = log
    assert probed == (threads, 1, 1)
    assert first == second and first[0] == name and first[2] != probed


@pytest.mark.parametrize("name", ("decode", "prefill", "attention", "attention, split", "text", "prompt"))
def test_stock_mlx_computes_what_no_threadgroup_fits(name: str) -> None:
    """The result is right, one line for each kernel says so, and it is not tried again."""
    log: Log = []
    ops = metal.MetalOps("interpreter", metal.Engine(limited(SIMD - 1, log), probe=True))
    with pytest.warns(UserWarning, match=r"^stock MLX computes what \w+\.metal would: .*\(31\)") as told:
        CASES[name](ops)
    assert len(told) == len({kernel.split("_SIMDGROUPS")[0] for kernel, *_ in log})
    before = len(log)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CASES[name](ops)
    assert len(log) == before


def failing(message: str) -> Callable[..., Any]:
    """Return a builder of kernels whose launches raise RuntimeError with a message."""

    def build(**options: Any) -> Any:
        def call(**arguments: Any) -> list[mx.array]:
            raise RuntimeError(message)

        return call

    return build


def test_stock_mlx_computes_what_metal_does_not_compile() -> None:
    said = "[metal::Device] Unable to build metal library from source\nprogram:3:5: error: no matching function\n  dot("
    ops = metal.MetalOps("interpreter", metal.Engine(failing(said), probe=True))
    with pytest.warns(UserWarning, match=r"program:3:5: error: no matching function\)\. Please report"):
        CASES["attention"](ops)


def test_other_errors_of_a_probe_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="Insufficient Memory"):
        said = "[METAL] Command buffer execution failed: Insufficient Memory"
        CASES["attention"](metal.MetalOps("interpreter", metal.Engine(failing(said), probe=True)))


def test_kernels_are_compiled_before_they_are_needed() -> None:
    """`missing` launches nothing and finds each kernel once; `compile` tells how far it is; then nothing is probed."""
    log: Log = []
    ops = metal.MetalOps("interpreter", metal.Engine(limited(128, log), probe=True))

    def run() -> None:
        for name in ("attention", "decode"):
            with contextlib.suppress(AssertionError):  # in zeros
                CASES[name](ops)

    launches, told = ops.missing(run), list[tuple[int, int]]()
    assert log == [] and [launch.file for launch in launches] == ["prefix_attention.metal", "int4_matmul.metal"]
    with pytest.warns(UserWarning, match="in place of 256"):
        ops.compile(launches, lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert ops.missing(run) == []
    before = len(log)
    CASES["attention"](ops)
    CASES["decode"](ops)
    assert len(log) == before + 2


def test_an_engine_without_a_probe_compiles_nothing_ahead() -> None:
    assert metal.Engine(limited(1024, [])).missing(lambda: pytest.fail("was run")) == []


@pytest.mark.parametrize("most", (1024, 384, 128))
def test_limits_are_read_from_what_mlx_says(most: int) -> None:
    """Nothing runs with too many threads, and what runs is right."""
    log: Log = []
    engine = Measuring(limited(most, log), {"check": True, "strict": False})
    CASES["attention"](metal.MetalOps("interpreter", engine))
    (found,) = engine.limits
    assert found.kernel.startswith("prefix_attention ") and found.most == most and found.threads == min(most, 256)
    assert max(threads for _, threads, _ in log) == TOO_MANY_THREADS


def test_a_limit_that_is_not_told_is_none() -> None:
    def build(**options: Any) -> Any:
        kernel = interpreter.metal_kernel(**options)

        def call(**arguments: Any) -> list[mx.array]:
            if int(np.prod(arguments["threadgroup"])) > 1024:
                raise RuntimeError("too many threads")
            return kernel(**arguments)

        return call

    engine = Measuring(build, {"strict": False})
    CASES["attention"](metal.MetalOps("interpreter", engine))
    assert [limit.most for limit in engine.limits] == [None]
