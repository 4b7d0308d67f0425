"""Shared fixtures: `ops` runs a test once on every backend that this machine supports."""

from __future__ import annotations

import importlib.util
import os

import pytest
from hypothesis import HealthCheck, settings

from kernels import Ops
from kernels.interpreter import compilers, lint

from . import backends
from .interpreter import emulated, wheel

# Repeatable by default; HYPOTHESIS_PROFILE=explore draws anew, and more.
settings.register_profile(
    "repeatable", deadline=None, max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.register_profile("explore", settings.get_profile("repeatable"), derandomize=False, max_examples=150)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what ran, at the end: `-q` leaves the header out."""
    absent = "; ".join(f"{name} ({why})" for name, why in backends.missing().items()) or "none"
    compiled = ", ".join(c.version for c in compilers()) or "none"
    spaces = "by clang" if lint.clang() else "by name only (no clang 16 or later)"
    terminalreporter.write_line(f"interpreter's compilers: {compiled}; address spaces checked {spaces}")
    terminalreporter.write_line(wheel.summary())
    if problem := emulated.missing():
        terminalreporter.write_line(f"the interpreter on aarch64 NOT run: {problem}")
    if importlib.util.find_spec("torch") is None:
        terminalreporter.write_line("CLAP tests NOT run: torch is not installed (pip install -e '.[test,eval]')")
    terminalreporter.write_line(f"backends tested: {', '.join(backends.names())}; not on this machine: {absent}")


@pytest.fixture(scope="session", params=backends.names())
def ops(request: pytest.FixtureRequest) -> Ops:
    """The operations of one backend. A backend that should run here and does not load is an error, not a skip."""
    return backends.load(request.param)
