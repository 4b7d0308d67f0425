"""Files written whole or not at all: a full disk or Ctrl-C leaves what was there before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from model.errors import UserError


def write(files: Mapping[Path, str | bytes]) -> list[Path]:
    """Write all of them, text as UTF-8; folders are made. UserError: one can't be written; then none is."""
    parts: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            with _one_line(path):
                target = _target(path)
                parts[target] = target.with_name(f".{target.name}.{os.getpid()}.part")
                target.parent.mkdir(parents=True, exist_ok=True)
                parts[target].write_bytes(content.encode() if isinstance(content, str) else content)
        for target, part in parts.items():
            with _one_line(target):
                part.replace(target)
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink()
    return list(files)


def check(path: Path) -> None:
    """UserError if `write` could not make this file: now, not after minutes of work. The folder is made."""
    with _one_line(path):
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        probe = target.with_name(f".{target.name}.{os.getpid()}.part")
        probe.touch()
        probe.unlink()


def _target(path: Path) -> Path:
    """Where a link leads; what is no plain file (a folder, /dev/null) must not be replaced by one."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise UserError(f"cannot write {path}: it is {'a folder' if target.is_dir() else 'no plain file'}; name a file")
    return target


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}") from e
