"""A column of a run in a child process, asked over JSON lines, so that its peak memory is its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from model.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
WORKER = (sys.executable, "-m", "bench.processes.worker")


class Child:
    """A process of `bench.processes.worker`, which ends with its `with` block, whatever happens."""

    def __init__(
        self, label: str, environment: Mapping[str, str] | None = None, *, command: Sequence[str] = WORKER
    ) -> None:
        """Start the process. `command` names another Python, or another program that answers as the worker does."""
        self.label = label
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 closed by close()
        # Started where the packages are, so that a `bench` folder in the user's directory is not taken for this one.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send a request and wait for its answer. Raises UserError, with the reason, if it or the process failed."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._errors.seek(0)
            tail = [text for text in self._errors.read().splitlines() if text.strip()][-1:]
            reason = f"killed by signal {-code} (out of memory?)" if code < 0 else f"exit code {code}"
            raise UserError(f"the {self.label} column's process ended: {reason} {' '.join(tail)}".strip())
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise UserError(f"the {self.label} column failed: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # closing flushes what a process that has died will never read
            process.stdin.close()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.close()
