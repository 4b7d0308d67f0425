"""A job: an edit that was asked for, what became of it, and how the API shows it."""

from __future__ import annotations

import secrets
from typing import Any, Literal

import msgspec

from .errors import Kind, Refused, no_room

State = Literal["queued", "running", "done", "failed", "canceled", "interrupted"]
FINAL = ("done", "failed", "canceled", "interrupted")
GONE = " (not served)"
"""Appended to a job's model when another one has its name now."""
ID = r"[0-9a-f]{16}"
"""What an id looks like; nothing else is looked for on disk."""


class Settings(msgspec.Struct, frozen=True):
    """How tokens are chosen. seed: the first candidate's; the others count up from it."""

    seed: int
    n: int
    guidance: float
    temperature: float
    top_k: int
    from_input: bool


class Source(msgspec.Struct, frozen=True):
    """The earlier edit that is edited again, or (candidate 0) an earlier job's input."""

    job: str
    candidate: int


class Input(msgspec.Struct, frozen=True):
    """The clip that is edited: seconds `start` to `end` of what was uploaded, kept as input.wav."""

    name: str
    """The uploaded file's name, without folders."""
    start: float
    end: float
    rate: int
    channels: int
    frames: int
    samples: int
    """Samples of the edit, at the model's rate."""
    level_db: float
    """RMS of the mono mix, in dB of full scale."""
    sha256: str
    """SHA-256 of the uploaded file if all of it is edited, else of input.wav."""
    whole: bool
    source: Source | None = None

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate


class Candidate(msgspec.Struct):
    """One of the edits: its file is NUMBER.wav."""

    number: int
    seed: int
    rank: int | None = None
    score: float | None = None
    level_db: float | None = None
    residual: bool = False


class Failure(msgspec.Struct, frozen=True):
    """Why a job failed."""

    message: str
    type: Kind
    param: str | None = None


class Job(msgspec.Struct):
    """The content of job.json. `done` of `total` steps; `work`: seconds that the edit took."""

    id: str
    model: str
    prompt: str
    sentence: str
    note: str | None
    settings: Settings
    input: Input
    candidates: list[Candidate]
    created: float
    state: State = "queued"
    started: float | None = None
    finished: float | None = None
    done: int = 0
    total: int = 0
    ready: int = 0
    """Samples of each candidate that can be heard."""
    ranked_by: str | None = None
    error: Failure | None = None
    work: float | None = None
    tries: int = 0
    weights: str = ""
    """The model's: what it is called depends on what else is served. Empty in records of older versions."""

    @property
    def final(self) -> bool:
        """Whether nothing will become of it any more."""
        return self.state in FINAL

    def candidate(self, number: int) -> Candidate | None:
        """Return a candidate by its number."""
        return self.candidates[number - 1] if 1 <= number <= len(self.candidates) else None


def new_id() -> str:
    """Return an id that nobody guesses."""
    return secrets.token_hex(8)


def failure(error: Exception) -> Failure:
    """Return what a job tells of an error: the command line's sentence, or that the fault is the studio's."""
    error = no_room(error) or error
    if isinstance(error, Refused):
        return Failure(str(error), error.kind, error.param)
    if isinstance(error, MemoryError):
        return Failure("out of memory; give a shorter clip or ask for fewer candidates", "server_error")
    return Failure(" ".join(str(error).split()), "invalid_request_error")


def shown(job: Job, position: int | None, seconds_left: float | None, rate: int) -> dict[str, Any]:
    """Return a job as the API gives it. rate: Hz of the edits that are heard while they are made."""
    place = f"/jobs/{job.id}"
    done = job.state == "done"
    clip = job.input
    length = clip.samples / rate
    candidates = [
        {
            "number": each.number, "seed": each.seed, "rank": each.rank, "score": each.score,
            "ready_seconds": length if done else job.ready / rate, "seconds": length, "level_db": each.level_db,
            "files": {
                "wav": f"{place}/audio/{each.number}.wav" if done else None,
                "flac": f"{place}/audio/{each.number}.flac" if done else None,
                "live": None if job.settings.from_input else f"{place}/audio/{each.number}.f32",
                "residual": f"{place}/audio/{each.number}-residual.wav" if done and each.residual else None,
            },
        }
        for each in job.candidates
    ]  # fmt: skip
    return {
        "id": job.id, "state": job.state, "created": job.created, "started": job.started, "finished": job.finished,
        "model": job.model, "prompt": job.prompt, "sentence": job.sentence, "note": job.note,
        "settings": msgspec.to_builtins(job.settings),
        "input": {
            "name": clip.name, "seconds": clip.seconds, "start": clip.start, "end": clip.end, "rate": clip.rate,
            "channels": clip.channels, "peaks": None, "source": msgspec.to_builtins(clip.source),
            "file": f"{place}/audio/input.wav", "level_db": clip.level_db,
        },
        "queue_position": position, "done": job.done, "total": job.total, "seconds_left": seconds_left,
        "ranked_by": job.ranked_by, "candidates": candidates, "zip": f"{place}/files.zip" if done else None,
        "error": msgspec.to_builtins(job.error),
    }  # fmt: skip
