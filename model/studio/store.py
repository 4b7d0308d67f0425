"""Jobs on disk: a folder each, whose job.json is written whole after everything that it names."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..errors import UserError
from ..whole_file import write_whole
from .jobs import ID, Job

RECORD = "job.json"
LEFTOVER = re.compile(r"\.[0-9a-f]{16}\.part|\d+\.f32")
"""What a killed studio leaves in a job's folder: files that were being written, and samples of an unfinished edit."""


class Store:
    """The folder DATA/jobs, of one studio at a time; `uploads` is a folder beside it for what is not yet a job's."""

    def __init__(self, data: Path) -> None:
        """Make the folder and take it. Raises UserError where it can't be written, or another studio has it."""
        self.folder, self.uploads = data / "jobs", data / "uploads"
        try:
            for folder in (self.folder, self.uploads):
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o700)  # a token keeps other users of this machine out; so does the disk
            self._lock = open(data / "lock", "ab")  # noqa: SIM115 - as long as this process
        except OSError as e:
            raise UserError(f"{data}: cannot be written ({e.strerror or e}); choose another --data") from e
        _take(self._lock.fileno(), data)
        for left in self.uploads.iterdir():  # by a studio that was killed, where the system names such files
            with contextlib.suppress(OSError):
                left.unlink()

    def close(self) -> None:
        """Release the lock on the data folder."""
        self._lock.close()

    def path(self, job: Job | str) -> Path:
        """Return a job's folder."""
        return self.folder / (job if isinstance(job, str) else job.id)

    def save(self, job: Job) -> None:
        """Write job.json, whole, to stay after a power cut too. Raises UserError where the disk refuses."""
        write_whole({self.path(job) / RECORD: msgspec.json.encode(job)}, make_folders=False)
        for folder in (self.path(job), self.folder):
            _to_disk(folder)

    def new(self, name: str) -> Path:
        """Make the folder of a job that is not yet one: without job.json it is gone at the next start."""
        path = self.path(name)
        path.mkdir()
        return path

    def delete(self, name: str) -> None:
        """Remove a job's folder."""
        self.hide(name)
        self.remove(name)

    def hide(self, name: str) -> None:
        """Take a job's folder out of sight, at once: it is none any more, also if the program is killed."""
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path(name), self._hidden(name))

    def remove(self, name: str) -> None:
        """Remove a folder that was hidden, which takes a while where its files are large."""
        shutil.rmtree(self._hidden(name), ignore_errors=True)

    def _hidden(self, name: str) -> Path:
        return self.folder / f".{name}.gone"

    def tidy(self, job: Job, *, results: bool = False) -> None:
        """Remove what is unfinished of a job, as far as the disk lets; results: all edits too."""
        with contextlib.suppress(OSError):
            for each in list(self.path(job).iterdir()):
                if LEFTOVER.fullmatch(each.name) or (results and each.name not in (RECORD, "input.wav")):
                    with contextlib.suppress(OSError):  # a folder that somebody put there, a disk gone read-only
                        each.unlink()

    def free(self) -> int:
        """Return how many bytes the disk has free."""
        return shutil.disk_usage(self.folder).free

    def whole(self, job: Job) -> bool:
        """Tell whether all files that a finished job names are there."""
        names = [f"{each.number}.wav" for each in job.candidates] + ["input.wav"]
        return all((self.path(job) / name).is_file() for name in names)

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs that are there, in no order; what never became a job, or has been deleted, is removed."""
        for path in list(self.folder.iterdir()):
            if path.name.endswith(".gone") and path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
            elif re.fullmatch(ID, path.name) and path.is_dir():
                try:
                    job = msgspec.json.decode((path / RECORD).read_bytes(), type=Job)
                except FileNotFoundError:
                    shutil.rmtree(path, ignore_errors=True)
                    continue
                except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
                    continue  # another version's: left alone
                if job.id == path.name:
                    yield job


def _to_disk(folder: Path) -> None:
    """Have the system write a folder's names to the disk, where it can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _take(descriptor: int, data: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise UserError(f"{data} is in use by another studio; stop that one, or choose another --data") from e
    except OSError as e:
        raise UserError(
            f"{data}: cannot be locked ({e.strerror or e}), so two studios could write into it; choose a --data on a "
            "disk of this machine"
        ) from e
