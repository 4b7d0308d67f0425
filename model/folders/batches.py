"""Files of equal length and equally long sentences run together as rows of one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import soundfile

from ..config import HOP, SAMPLE_RATE
from ..results.edit_record import EditRecord
from .file_jobs import FileJob


class Task(NamedTuple):
    """A job with its record (the sentence that goes in is the record's) and that sentence's tokens."""

    job: FileJob
    made: EditRecord
    tokens: int


def batches(tasks: Sequence[Task], most: int) -> Iterator[list[Task]]:
    """Yield tasks in groups of at most `most` that can run together, as far as headers tell; long files come last."""
    groups: dict[tuple[int, int], list[Task]] = {}
    for task in tasks:
        groups.setdefault((expected_frames(task.job.input), task.tokens), []).append(task)
    for key in sorted(groups):
        group = groups[key]
        for at in range(0, len(group), most):
            yield group[at : at + most]


def expected_frames(path: Path) -> int:
    """Return the codec frames of a file by its header; 0 where that does not tell: what is decoded decides anyway."""
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError):
        return 0
    samples = (2 * int(info.frames) * SAMPLE_RATE + int(info.samplerate)) // (2 * int(info.samplerate))
    return -(-samples // HOP)
