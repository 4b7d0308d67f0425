"""Evidence of what ran: calls by operation, primitives in a step's graph, and calls that ended up in the reference.

Three independent witnesses, because a fused column that quietly computes with the reference would be worthless:
`Counted` counts what the model asks a backend for; `primitives` reads from MLX's own graph what will be evaluated;
`reference_calls` catches every Python call into `reference` while something runs.
"""

from __future__ import annotations

import functools
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import mlx.core as mx

import reference
from reference.contract import Ops

from ..results import OPERATIONS

_REFERENCE = str(Path(reference.__file__).parent)


class Counted:
    """A backend's operations, each call counted by name in `calls`; everything else is the backend's own."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops
        self.name = ops.name
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.ops, name)
        if name not in OPERATIONS:
            return attribute
        counted = self._counted(name, attribute)
        setattr(self, name, counted)
        return counted

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        calls = self.calls

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return function(*args, **kwargs)

        return call


def primitives(*arrays: mx.array) -> dict[str, int]:
    """Count each primitive in the graph of arrays not yet evaluated, by MLX's (or the extension's) name."""
    graph = io.StringIO()
    mx.export_to_dot(graph, *arrays)
    return dict(Counter(re.findall(r'label ="([^"]+)"', graph.getvalue())))


@contextmanager
def reference_calls() -> Iterator[Counter[str]]:
    """Count calls into `reference`'s operations while the block runs (slows Python: not for timed runs)."""
    calls: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name in OPERATIONS and code.co_filename.startswith(_REFERENCE):
            calls[code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(before)
