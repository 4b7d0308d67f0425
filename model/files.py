"""Files written whole or not at all: a full disk or Ctrl-C leaves what was there before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import UserError


def write_whole(files: Mapping[Path, str | bytes]) -> list[Path]:
    """Write all of them, text as UTF-8; folders are made. Raises UserError if one can't be written; then none is."""
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


def check_writable(path: Path) -> None:
    """Raises UserError if `write_whole` could not make this file: now, not after minutes of work. Makes the folder."""
    with _one_line(path):
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        probe = target.with_name(f".{target.name}.{os.getpid()}.part")
        probe.touch()
        probe.unlink()


def _target(path: Path) -> Path:
    """Return where a link leads. Raises UserError for what must not be replaced by a file (a folder, /dev/null)."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "not a regular file"
        raise UserError(f"cannot write {path}: it is {kind}; name a file")
    return target


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}") from e
