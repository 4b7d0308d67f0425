"""Files written whole or not at all: a full disk or Ctrl-C leaves what was there before."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from .errors import UserError

MAX_NAME = 200
"""Characters of a name that its temporary sibling keeps: file systems take 255 bytes."""
Explain = Callable[[Path, OSError], UserError]


def cannot_write(path: Path, error: OSError) -> UserError:
    """Say why a file cannot be written."""
    return UserError(f"cannot write {path}: {error.strerror or error}")


def write_whole(
    files: Mapping[Path, str | bytes], *, make_folders: bool = True, explain: Explain = cannot_write
) -> list[Path]:
    """Write all of them, text as UTF-8. Raises UserError, by `explain`, if one can't be written; then none is.

    A link is written through to what it points to.
    """
    parts: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            with _explained(path, explain):
                target = _target(path)
                parts[target] = _sibling(target, make_folders)
                with open(parts[target], "xb") as file:
                    file.write(content.encode() if isinstance(content, str) else content)
                    file.flush()
                    os.fsync(file.fileno())
        for target, part in parts.items():
            with _explained(target, explain):
                part.replace(target)
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink()
    return list(files)


def check_writable(path: Path, *, make_folders: bool = True, explain: Explain = cannot_write) -> None:
    """Raises UserError if `write_whole` could not make this file: now, not after minutes of work."""
    with _explained(path, explain):
        probe = _sibling(_target(path), make_folders)
        with open(probe, "xb"):
            pass
        probe.unlink()


def _sibling(target: Path, make_folders: bool) -> Path:
    if make_folders:
        target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name[:MAX_NAME]}.{secrets.token_hex(4)}.part")


def _target(path: Path) -> Path:
    """Return where a link leads. Raises OSError for what must not be replaced by a file (a folder, /dev/null)."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        kind = "it is a directory" if target.is_dir() else "it is not a regular file"
        raise OSError(errno.EISDIR, f"{kind}; name a file")
    return target


@contextlib.contextmanager
def _explained(path: Path, explain: Explain) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise explain(path, e) from e
