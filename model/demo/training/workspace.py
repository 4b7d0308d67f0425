"""The folder that training works in: where each stage's files lie, the log, and checkpoints that a kill can't break."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...whole_file import write_whole


@dataclass(frozen=True, slots=True)
class Workspace:
    """Name every file of a training run. The folder lies outside the working tree and is made when it is first used."""

    root: Path

    def folder(self, name: str) -> Path:
        """Return a subfolder, made if it is missing."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def songs(self) -> Path:
        """Return the folder of rendered songs."""
        return self.folder("songs")

    @property
    def codes(self) -> Path:
        """Return the folder of encoded songs."""
        return self.folder("codes")

    @property
    def log_path(self) -> Path:
        """Return the path of the log."""
        return self.root / "log.json"

    def log(self) -> dict[str, Any]:
        """Read the log; an empty one where there is none yet."""
        if not self.log_path.is_file():
            return {}
        loaded: dict[str, Any] = json.loads(self.log_path.read_text(encoding="utf-8"))
        return loaded

    def write_log(self, **entries: Any) -> None:
        """Set top-level entries of the log."""
        with self._alone():
            self._save({**self.log(), **entries})

    def append_log(self, name: str, row: dict[str, Any]) -> None:
        """Append a row to one of the log's lists, with the seconds since 1970."""
        with self._alone():
            log = self.log()
            log.setdefault(name, []).append({"time": round(time.time()), **row})
            self._save(log)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other stages from writing the log meanwhile: they may run at the same time."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "log.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _save(self, log: dict[str, Any]) -> None:
        lines = []
        for key, value in log.items():
            if isinstance(value, list):
                rows = ",\n".join(f"  {json.dumps(row)}" for row in value)
                lines.append(f"{json.dumps(key)}: [\n{rows}\n ]")
            else:
                lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
        text = "{\n " + ",\n ".join(lines) + "\n}\n"
        write_whole({self.log_path: text})


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let a library write a large file beside `path`, then rename it: a reader or a kill never meets half a file."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def check_settings(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise UserError if a checkpoint was made with other settings, naming the first one that differs."""
    for key in sorted(wanted.keys() | found.keys()):
        if found.get(key) != wanted.get(key):
            raise UserError(
                f"{path} was made with {key}={found.get(key)!r}, not {wanted.get(key)!r}; "
                "use the same setting, or another --work folder"
            )
