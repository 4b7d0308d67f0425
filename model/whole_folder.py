"""Write the whole folder of a bundle, or nothing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UserError
from .system.signals import ending_cleanly

BUNDLE_FILES = {"config.json", "model.safetensors", "compression_state_dict.bin", "encodec", "t5"}


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """Yield a temporary folder whose content takes the place of `out`'s if the block ends well; else remove it.

    `out` may not exist yet, be empty, or be a bundle, which is then replaced. A folder that exists stays itself (it may
    be mounted, or someone's working directory) and is filled: the temporary one is inside it, else beside it.
    A signal that ends the program cleans up too; what a killed process leaves is a hidden folder that the next call
    removes. Raises UserError if `out` is something else, the place is not writable, or the disk is full.
    """
    out = Path(os.path.realpath(out))
    _remove_stale(out)
    _check_target(out)
    part = (out if out.is_dir() else out.parent) / _hidden(out, "part")
    try:
        with ending_cleanly():
            part.parent.mkdir(parents=True, exist_ok=True)
            part.mkdir()
            yield part
            _put(part, out)
    except OSError as e:
        shutil.rmtree(part, ignore_errors=True)
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"the disk is full: cannot write {out}; free space or choose another --out") from e
        raise UserError(f"cannot write {out}: {e.strerror or e}; choose another --out") from e
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def need_space(folder: Path, nbytes: int) -> None:
    """Raise UserError if the disk of `folder` has less than `nbytes` free: better now than after an hour."""
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise UserError(
            f"the disk is full: {folder.parent} has {free / 1e6:.0f} MB free and {nbytes / 1e6:.0f} MB are needed; "
            "free space or choose another --out"
        )


def _check_target(out: Path) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise UserError(f"{out} exists and is not a folder; choose another --out")
    try:
        names = {p.name for p in out.iterdir() if p.name != "lost+found" and not _is_hidden(p.name, out)}
    except OSError as e:
        raise UserError(f"cannot write {out}: {e.strerror}; choose another --out") from e
    if names and not ({"config.json", "model.safetensors"} <= names <= BUNDLE_FILES):
        raise UserError(f"{out} exists and is not (only) a bundle; choose another --out or empty it")


def _stem(out: Path) -> str:
    """Return how `out`'s temporary names begin, short enough for any file system (255 bytes) with what follows."""
    return f".{os.fsencode(out.name)[:200].decode(errors='ignore')}."


def _hidden(out: Path, kind: str) -> str:
    return f"{_stem(out)}{kind}-{os.getpid()}"


def _is_hidden(name: str, out: Path) -> bool:
    return name.startswith((f"{_stem(out)}part-", f"{_stem(out)}old-"))


def _remove_stale(out: Path) -> None:
    """Remove what killed processes left beside `out` and in it; those of processes that still run are theirs."""
    for folder in (out.parent, out):
        if not folder.is_dir():
            continue
        with suppress(OSError):
            for each in folder.iterdir():
                pid = each.name.rpartition("-")[2]
                if _is_hidden(each.name, out) and pid.isdigit() and not _alive(int(pid)):
                    shutil.rmtree(each, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid != os.getpid()


def _put(part: Path, out: Path) -> None:
    """Move `part` to `out`; into it if it exists, where an old bundle is moved aside first and removed last."""
    if part.parent != out:
        part.rename(out)
        return
    old = out / _hidden(out, "old")
    old.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        kept = [out / name for name in sorted(BUNDLE_FILES) if os.path.lexists(out / name)]
        for each, target in (*((e, old) for e in kept), *((e, out) for e in sorted(part.iterdir()))):
            each.rename(target / each.name)
            moved.append((each, target / each.name))
    except BaseException:
        for before, after in reversed(moved):
            after.rename(before)
        old.rmdir()
        raise
    part.rmdir()
    shutil.rmtree(old, ignore_errors=True)
