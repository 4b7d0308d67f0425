"""A child process that holds one column: JSON lines in, JSON lines out. `python -m bench.processes.worker`."""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any, TextIO

from model.errors import UserError


def _channel() -> TextIO:
    """The real standard output, for answers alone; whatever else is printed goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer {"do": "load" | "round" | "bandwidth" | "pass", ...} until the input ends."""
    session: Any = None
    stream: Any = None
    for line in requests:
        request = json.loads(line)
        try:
            answer: dict[str, Any]
            if request["do"] == "load":
                from ..edit.session import Session, Settings

                session = Session(Settings(**request["settings"]))
                answer = session.warm_up()
            elif request["do"] == "load_peer":
                from ..peers.plain_mlx import make

                session, answer = make(**request["settings"]), {}
            elif request["do"] == "bandwidth":
                from ..machine.bandwidth import Stream

                stream = Stream(metal=request["metal"])
                answer = stream.measure()
            elif request["do"] == "pass":
                answer = {"seconds": [stream.read() for _ in range(3)]}
            elif request["do"] == "round":
                answer = session.round()
            else:
                raise ValueError(f"request {request!r} is not known")
        except (UserError, ValueError, RuntimeError, ImportError, OSError, MemoryError) as e:
            answer = {"error": f"{e}" or type(e).__name__, "kind": type(e).__name__}
        print(json.dumps(answer), file=answers, flush=True)


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
