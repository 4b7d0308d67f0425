"""Shared fixtures: `ops` runs a test once on every backend that this machine supports."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import time
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from kernels import Ops
from kernels.interpreter import compilers
from kernels.interpreter.static_checks import lint

from . import backends, one_minute, watch
from .browser import chromium
from .kernels.interpreter.aarch64 import emulated
from .kernels.interpreter.mlx_kernels import wheel
from .kernels.native import pool_hooks
from .kernels.native.isas import emulators
from .loops import pytest_runtest_teardown  # noqa: F401 - a hook
from .model.demo import recipe

os.environ.setdefault("INSTRUCT_MUSICGEN_TUNING", "off")  # a tuning of this machine changes no test
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's: the suite's workers share the cores already

# Repeatable by default; HYPOTHESIS_PROFILE=explore draws anew, and more.
settings.register_profile(
    "repeatable", deadline=None, max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.register_profile("explore", settings.get_profile("repeatable"), derandomize=False, max_examples=150)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

BEGUN = time.perf_counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what ran, at the end: `-q` leaves the header out."""
    absent = "; ".join(f"{name} ({why})" for name, why in backends.missing().items()) or "none"
    compiled = ", ".join(c.version for c in compilers()) or "none"
    spaces = "by clang" if lint.clang() else "by name only (no clang 16 or later)"
    terminalreporter.write_line(f"interpreter's compilers: {compiled}; address spaces checked {spaces}")
    terminalreporter.write_line(wheel.summary() if compilers() else "MLX's kernels NOT run: no C++ compiler")
    if problem := emulated.missing():
        terminalreporter.write_line(f"the interpreter on aarch64 NOT run: {problem}")
    if importlib.util.find_spec("torch") is None:
        terminalreporter.write_line("CLAP tests NOT run: torch is not installed (pip install -e '.[test,eval]')")
    if importlib.util.find_spec("llama_cpp") is None:
        terminalreporter.write_line("ggml's products NOT run: llama-cpp-python is not installed (pip builds it)")
    for mark, why in recipe.missing().items():
        terminalreporter.write_line(f"{recipe.WHAT[mark]} NOT run: {why}")
    for line in one_minute.summary(terminalreporter, time.perf_counter() - BEGUN):
        terminalreporter.write_line(line)
    for line in (*emulators.summary(), *pool_hooks.summary(), *chromium.summary()):
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"backends tested: {', '.join(backends.names())}; not on this machine: {absent}")


def pytest_configure(config: pytest.Config) -> None:
    watch.register(config)
    # A shell starts background jobs deaf to Ctrl-C and SIGQUIT, nohup to SIGHUP, and their children would be too: some
    # tests send all three.
    signals = {signal.SIGINT: signal.default_int_handler, signal.SIGQUIT: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    for number, handler in signals.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    config.addinivalue_line("markers", "backend(name): skipped where the machine cannot run it, which the end says")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare Python's collector the thousands of tests, which live to the end: a look at all of them takes 0.1 s."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("backend"):
            if reason := backends.missing().get(mark.args[0]):
                item.add_marker(pytest.mark.skip(reason=f"{mark.args[0]}: {reason}"))


@pytest.fixture(scope="session", params=backends.names())
def ops(request: pytest.FixtureRequest) -> Ops:
    """The operations of one backend. A backend that should run here and does not load is an error, not a skip."""
    return backends.load(request.param)
