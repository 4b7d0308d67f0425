"""A child process that holds one column: JSON lines in, JSON lines out. `python -m bench.processes.worker`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from typing import Any, TextIO

import msgspec

from model.errors import UserError


def _channel() -> TextIO:
    """Keep the real standard output for answers alone; whatever else is printed goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer {"do": "load", "make": "module:function", "settings": {...}} and {"do": "round"} until the input ends.

    The function takes the settings and returns the column, an object with `round()`, and the answer to "load".
    """
    column: Any = None
    for line in requests:
        request = json.loads(line)
        answer: Any
        try:
            if request["do"] == "load":
                module, _, function = request["make"].partition(":")
                column, answer = getattr(importlib.import_module(module), function)(**request["settings"])
            else:
                answer = column.round()
        except (UserError, ValueError, RuntimeError, ImportError, OSError, MemoryError) as e:
            answer = {"error": f"{e}" or type(e).__name__, "kind": type(e).__name__}
        print(msgspec.json.encode(answer).decode(), file=answers, flush=True)


def main() -> None:
    """Serve the process that started this one."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    answers = _channel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            serve(sys.stdin, answers)
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
