"""What is to be done: a job for each file that is named, lies in a folder that is named, or stands in a manifest."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..audio import SUFFIXES
from ..errors import UsageError, UserError

COLUMNS = ("input", "sentence", "output", "seed")
"""Columns of a manifest; only the first is needed."""


@dataclass(frozen=True)
class FileJob:
    """Edit `input` as `sentence` says, with `seed`, to `output`, whose path below the folder of results is `name`."""

    input: Path
    output: Path
    name: str
    seed: int
    sentence: str | None = None
    """None: the one of the command line."""


def collect(inputs: Sequence[Path], out: Path, seed: int, suffix: str = ".wav") -> list[FileJob]:
    """Return the jobs in order of their names.

    inputs: audio files, folders (with those inside them, at any depth), and manifests (.csv). Files of folders keep
    their place below `out`. Raises UserError for a folder without audio, a manifest's broken line, two inputs for one
    output, and an output that is an input or lies in a folder that is read.
    """
    jobs: list[FileJob] = []
    for given in inputs:
        if given.is_dir():
            if _inside(out, given):
                raise UsageError(
                    f"-o {out}: lies inside the input folder {given}, where results would be taken for inputs; choose "
                    "another one"
                )
            jobs += [_job(path, out, path.relative_to(given), seed, suffix) for path in _audio_in(given)]
        elif given.suffix.lower() == ".csv":
            jobs += manifest(given, out, seed, suffix)
        else:
            jobs.append(_job(given, out, Path(given.name), seed, suffix))
    _check(jobs)
    return sorted(jobs, key=lambda job: job.name)


def seed_of(base: int, file: str) -> int:
    """Derive a file's seed from its name, so that it does not depend on which other files there are."""
    return int.from_bytes(hashlib.sha256(f"{base}/{file}".encode("utf-8", "surrogateescape")).digest()[:8], "big")


def manifest(path: Path, out: Path, seed: int, suffix: str = ".wav") -> list[FileJob]:
    """Read a manifest: CSV in UTF-8 whose first line names its columns (see `COLUMNS`).

    Inputs are relative to the manifest's folder, outputs to `out`. Raises UserError that names the line.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return list(_lines(path, csv.reader(file, strict=True), out, seed, suffix))
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({(e.strerror or str(e)).lower()}); check the path") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: is not a CSV file in UTF-8 ({e.reason} at byte {e.start}); save it as one") from e


def _lines(path: Path, reader: Any, out: Path, seed: int, suffix: str) -> Iterator[FileJob]:
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [cell.strip().lower() for cell in cells]
                if "input" not in names or set(names) - set(COLUMNS) or len(set(names)) < len(names):
                    others = ", ".join(COLUMNS[1:])
                    raise ValueError(f"the first line must name the columns: input, and perhaps {others}")
            elif len(cells) != len(names):
                raise ValueError(
                    f"{len(cells)} fields where the first line names {len(names)}; put quotes around what holds commas"
                )
            else:
                yield _line(path, {k: cell.strip() for k, cell in zip(names, cells)}, out, seed, suffix)
    except UnicodeDecodeError:
        raise
    except (csv.Error, ValueError) as e:
        raise UserError(f"{path}, line {max(reader.line_num, 1)}: {e}") from e


def _line(path: Path, cells: dict[str, str], out: Path, seed: int, suffix: str) -> FileJob:
    if not cells["input"]:
        raise ValueError("the input column is empty; name an audio file")
    source = path.parent / Path(cells["input"]).expanduser()
    name = Path(cells.get("output") or source.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"the output {name} must be a path below the folder of results, without ..")
    job = _job(source, out, name, seed, name.suffix if cells.get("output") else suffix)
    if own := cells.get("seed"):
        if not own.isdecimal() or int(own) >= 2**64:
            raise ValueError(f"the seed {own!r:.30} must be a whole number from 0 to 2^64 - 1")
        job = replace(job, seed=int(own))
    return replace(job, sentence=cells.get("sentence") or None)


def _job(source: Path, out: Path, name: Path, seed: int, suffix: str) -> FileJob:
    written = name.with_suffix(suffix)
    return FileJob(source, out / written, written.as_posix(), seed_of(seed, source.name))


def _audio_in(folder: Path) -> list[Path]:
    """List audio files at any depth, without hidden ones (a Mac's "._song.wav"). Raises UserError if there is none."""
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            found.append(path)
    if not found:
        raise UserError(f"{folder} has no audio files ({', '.join(sorted(SUFFIXES))})")
    return found


def _inside(path: Path, folder: Path) -> bool:
    inner, outer = path.resolve(), folder.resolve()
    return inner == outer or outer in inner.parents


def _check(jobs: Sequence[FileJob]) -> None:
    """Raise UsageError where a result would be written over another, or over an input."""
    outputs: dict[str, FileJob] = {}
    inputs = {job.input.resolve() for job in jobs}
    for job in jobs:
        key = job.name.casefold()  # file systems of Macs don't tell "A.wav" from "a.wav"
        if key in outputs:
            raise UsageError(
                f"{job.output}: both {outputs[key].input} and {job.input} would be written to it; rename one, or name "
                "the outputs in a manifest"
            )
        outputs[key] = job
        if job.output.resolve() in inputs:
            raise UsageError(f"{job.output}: is one of the inputs; choose another folder with -o")
