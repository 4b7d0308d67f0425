"""A child process that holds one column: JSON lines in, JSON lines out. `python -m bench.processes.worker`.

It needs only Python; a column's own module imports what the column needs.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from dataclasses import asdict
from typing import Any, TextIO


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
        except Exception as e:
            bug = isinstance(e, (AssertionError, AttributeError, LookupError, NameError, TypeError)) or not str(e)
            answer = {"error": f"{type(e).__name__}: {e}" if bug else str(e)}
        print(json.dumps(answer, default=asdict), file=answers, flush=True)


def main() -> None:
    """Serve the process that started this one."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # The real standard output is for answers alone; whatever else is printed goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            serve(sys.stdin, answers)
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
