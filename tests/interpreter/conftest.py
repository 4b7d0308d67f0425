"""Says at the end of the run what the interpreter was tested with."""

from __future__ import annotations

import pytest

from kernels.interpreter import compilers, lint


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line: compilers, and whether clang checked address spaces."""
    found = ", ".join(c.version for c in compilers()) or "none"
    clang = "by clang" if lint.clang() else "by name only (no clang 16 or later)"
    terminalreporter.write_line(f"interpreter's compilers: {found}; address spaces checked {clang}")
