"""`pytest bench --benchmark-only`: pytest-benchmark over the same cases; `bench compare` reads its JSON.

    pytest bench --benchmark-only --benchmark-json=a.json --benchmark-save-data
"""

from __future__ import annotations

import pytest

import kernels
from kernels import Ops


def columns() -> list[str]:
    """The reference and the fused backends that can run here."""
    out = ["reference"]
    for name in ("metal", "native"):
        try:
            kernels.load(name)
        except (kernels.BackendUnavailable, ImportError):
            continue
        out.append(name)
    return out


@pytest.fixture(params=columns())
def ops(request: pytest.FixtureRequest) -> Ops:
    """Each backend in turn."""
    return kernels.load(request.param)
