"""Files written whole or not at all: a full disk or Ctrl-C leaves what was there before."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from .errors import UserError
from .system.signals import ending_cleanly

Explain = Callable[[Path, OSError], UserError]
IN_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV)
"""Why no other file can take a file's place: its folder is write-protected, or it is mounted itself."""


def cannot_write(path: Path, error: OSError) -> UserError:
    """Say why a file cannot be written."""
    return UserError(f"cannot write {path}: {error.strerror or error}")


def write_whole(
    files: Mapping[Path, str | bytes], *, make_folders: bool = True, explain: Explain = cannot_write
) -> list[Path]:
    """Write all of them, text as UTF-8. Raises UserError, by `explain`, if one can't be written; then none is.

    A link is written through to what it points to. A file that is replaced leaves its mode and owner to the new one,
    and is refused if it is write-protected. Pipes and devices are written into. Where a file can only be written in
    its place (a mounted one), it is, and gets its old content back if that fails.
    """
    parts: dict[Path, Path] = {}
    contents = {path: content.encode() if isinstance(content, str) else content for path, content in files.items()}
    with ending_cleanly():
        try:
            for path, content in contents.items():
                with _explained(path, explain):
                    if not is_stream(path):
                        parts[path] = _written(_target(path), content, make_folders)
            for path in contents.keys() - parts.keys():
                with _explained(path, explain), open(path, "wb", buffering=0) as stream:
                    write_all(stream.fileno(), contents[path])
            for path, part in parts.items():
                with _explained(path, explain):
                    _put(part, _target(path), contents[path])
        finally:
            for part in parts.values():
                with contextlib.suppress(OSError):
                    part.unlink()
    return list(files)


def write_with(path: Path, write: Callable[[BinaryIO], None], *, explain: Explain = cannot_write) -> None:
    """Let `write` write a file, as long as it may be, as `write_whole` does: all of it or nothing.

    The file that `write` gets can be written, read and sought in, but for a pipe, which can only be written. Its folder
    must be there. Raises UserError, by `explain`, if it can't be written.
    """
    with ending_cleanly(), _explained(path, explain):
        if is_stream(path):
            with open(path, "wb") as stream:
                write(stream)
            return
        target = _target(path)
        part = _beside(target)
        try:
            with _begun(part, target) as file:
                write(file)
            part.replace(target)
            return
        except _NoneBeside:
            pass
        except OSError as e:
            if not part.exists() or e.errno not in IN_PLACE:
                raise
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
    kept = io.BytesIO()  # in its place: what was there must come back if that fails
    write(kept)
    write_whole({path: kept.getvalue()}, make_folders=False, explain=explain)


def check_writable(path: Path, *, make_folders: bool = True, explain: Explain = cannot_write) -> None:
    """Raise UserError if `write_whole` could not make this file: now, not after minutes of work."""
    with _explained(path, explain):
        if not is_stream(path):
            _written(_target(path), b"", make_folders).unlink(missing_ok=True)
        elif not os.access(path, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def is_stream(path: Path) -> bool:
    """Return whether it is a pipe or a character device (/dev/null), which is written into, not replaced."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _target(path: Path) -> Path:
    """Return where a link leads. Raises OSError for what must not be replaced by a file, or is write-protected."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        kind = "it is a directory" if target.is_dir() else "it is not a regular file"
        raise OSError(errno.EISDIR, f"{kind}; name a file")
    if target.exists() and not os.access(target, os.W_OK):
        raise OSError(errno.EACCES, "it is write-protected; change its mode or name another file")
    return target


def _written(target: Path, content: bytes, make_folders: bool) -> Path:
    """Return a file beside `target` with the content, and the mode and owner of what is there.

    `target` itself where there can be none beside it.
    """
    if make_folders:
        target.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(target)
    with contextlib.suppress(_NoneBeside), _begun(part, target) as file:
        write_all(file.fileno(), content)
    return part  # where nothing is there, `_put` writes in place


def _beside(target: Path) -> Path:
    return target.with_name(f".{secrets.token_hex(8)}.part")  # short: file systems take 255 bytes


class _NoneBeside(Exception):
    """A file can only be written in its place."""


@contextlib.contextmanager
def _begun(part: Path, target: Path) -> Iterator[BinaryIO]:
    """Provide the new file `part` with the mode and owner of `target`, safe on the disk when the block ends.

    If the block or the disk fails, it is removed. Raises _NoneBeside where no file can be made beside `target`.
    """
    try:
        before = os.stat(target)
    except FileNotFoundError:  # another error, as of a name that is too long, is the target's own
        before = None
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600 if before else 0o666)
    except OSError as e:
        if before is None or e.errno not in IN_PLACE:
            raise
        raise _NoneBeside from e
    try:
        with open(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
            if before is not None:
                with contextlib.suppress(OSError):  # only root may give files away
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _put(part: Path, target: Path, content: bytes) -> None:
    try:
        part.replace(target)
        return
    except OSError as e:
        if not target.exists() or (part.exists() and e.errno not in IN_PLACE):
            raise
    before = target.read_bytes()
    try:
        target.write_bytes(content)
    except BaseException:
        target.write_bytes(before)
        raise


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of the content: a disk that is nearly full takes a part of it without an error."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextlib.contextmanager
def _explained(path: Path, explain: Explain) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise explain(path, e) from e
