"""The folder that compiled kernels, and what compilers said of them, are kept in."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import warnings
from pathlib import Path

VARIABLE = "INSTRUCT_MUSICGEN_INTERPRETER_CACHE"


def cache_folder() -> Path:
    """Return the folder: the one that the variable names, else the user's, else a temporary one.

    Where the user's cannot be written (containers, services), one warning says so and what to set. Raises OSError,
    naming the variable, if the folder that it names cannot be written.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        if problem := _problem(Path(chosen)):
            raise OSError(f"{VARIABLE}={chosen} cannot be written ({problem}); name another folder")
        return Path(chosen)
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    folder = base / "instruct-musicgen" / "interpreter"
    problem = _problem(folder)
    return _temporary(folder, problem) if problem else folder


def keep(target: Path, text: str) -> None:
    """Write a text file, whole or not at all, so that processes that make the same one do not disturb each other.

    By hand, since the interpreter imports nothing of the model: `model.whole_file` does the same with more care.
    """
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=".kept-", delete=False) as scratch:
        try:
            scratch.write(text)
            scratch.close()
            os.replace(scratch.name, target)
        except BaseException:
            os.unlink(scratch.name)
            raise


@functools.cache
def _problem(folder: Path) -> str:
    """Return why files cannot be written into a folder, or ""."""
    if not folder.is_absolute() and folder.parts[:1] == ("~",):
        return "there is no home folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as e:
        return e.strerror or str(e)


@functools.cache
def _temporary(folder: Path, problem: str) -> Path:
    """Make a private folder that lives as long as this process."""
    temporary = tempfile.mkdtemp(prefix="instruct-musicgen-kernels-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    warnings.warn(
        f"compiled kernels cannot be kept in {folder} ({problem}), and are compiled anew by every process; set "
        f"{VARIABLE} to a folder that can be written",
        stacklevel=4,
    )
    return Path(temporary)
