"""Edit many files: batch after batch, each file written as soon as it is done, none stopped by another's failure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from .. import audio, instructions, memory, whole_file
from ..audio import Clip, Samples
from ..candidates.scores import scores
from ..config import HOP
from ..decoding import steps
from ..decoding.likelihood import Likelihood
from ..decoding.sampling import Sampling
from ..errors import NO_ROOM, UserError
from ..from_input import original as originals
from ..from_input.guides import guided
from ..from_input.split import encoded, split, suffix_bits
from ..pipeline import InstructMusicGen
from ..progress import Progress
from ..results import edit_record as records
from ..results.edit_record import EditRecord
from .batches import Task, batches
from .file_jobs import FileJob


class NoRoom(UserError):
    """The disk is full: nothing further can be written."""


@dataclass(frozen=True)
class FolderSettings:
    """The settings of all files. `options` go into each record; guides: seeds of a mask (`--from-input`), or None."""

    sentence: str | None
    """The sentence of jobs without one of their own."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """temperature, top_k, top_p, guidance, greedy."""
    max_steps: int | None = None
    window: int | None = None
    keep_rate: bool = False
    normalize: bool = False
    guides: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def guidance(self) -> float:
        """The guidance, by default `generate`'s."""
        return float(self.sampling.get("guidance", 3.0))


@dataclass(frozen=True)
class Outcome:
    """The end of a job: done, skipped (it was whole already) or failed, with `error` saying why."""

    job: FileJob
    status: str
    made: EditRecord | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    """Seconds of sound."""
    took: float = 0.0
    """Seconds of wall time; a batch's time is shared equally among its files."""
    error: str = ""

    def line(self) -> dict[str, str]:
        """Return it as a line of the table."""
        made = self.made
        about = {} if made is None else {
            "sentence": made.sentence, "model": made.model, "weights": made.weights, "backend": made.backend,
            "version": made.version,
        }  # fmt: skip
        numbers = {name: f"{value:.6g}" for name, value in self.scores.items()}
        times = {"seconds": f"{self.seconds:.3f}", "took": f"{self.took:.3f}"} if self.status == "done" else {}
        seed = str(self.job.seed)
        return {
            "output": self.job.name, "status": self.status, "input": str(self.job.input), "seed": seed,
            "error": self.error, **about, **numbers, **times,
        }  # fmt: skip


def edit_files(
    model: InstructMusicGen, jobs: Sequence[FileJob], settings: FolderSettings, progress: Progress | None = None
) -> Iterator[Outcome]:
    """Do the jobs; yield what became of each as soon as it is known, those that need no work first.

    A file that cannot be read, edited or written is a failure of its own. Raises NoRoom where nothing further can be
    written: what was done before stays.
    """
    blank = records.of(model, "", 0, options=settings.options)
    tasks: list[Task] = []
    for job in jobs:
        try:
            task = _task(model, job, settings, blank)
        except UserError as e:
            yield Outcome(job, "failed", error=str(e))
            continue
        if records.is_whole(job.output, task.made):
            yield Outcome(job, "skipped", task.made)
        else:
            tasks.append(task)
    if settings.guides is not None:
        for task in tasks:
            yield _from_input(model, task, settings, progress)
        return
    longest = model.plan(model.adapter.config.max_n_frames, settings.window)
    need = memory.need_of(model, longest, settings.guidance)
    for batch in batches(tasks, max(1, need.most(need.together, memory.available()))):
        yield from _batch(model, batch, settings, progress)


def _task(model: InstructMusicGen, job: FileJob, settings: FolderSettings, blank: EditRecord) -> Task:
    said = job.sentence or settings.sentence
    if said is None:
        raise UserError(f"{job.input}: no sentence; name one in the manifest, or for all with -i")
    text = instructions.trained(said, model.bundle.config.instructions)
    made = replace(
        blank, sentence=text, seed=job.seed, input=job.input.name, input_sha256=records.digest(job.input)
    )  # fmt: skip
    return Task(job, made, model.tokenizer([text])[0].shape[1])


def _batch(
    model: InstructMusicGen, tasks: Sequence[Task], settings: FolderSettings, progress: Progress | None
) -> Iterator[Outcome]:
    """Edit files whose headers name equal lengths; those that turn out otherwise run apart."""
    start = time.perf_counter()
    clips: dict[int, list[tuple[Task, Clip]]] = {}
    for task in tasks:
        try:
            clip = audio.load(task.job.input)
        except UserError as e:
            yield Outcome(task.job, "failed", task.made, error=str(e))
            continue
        if settings.max_steps is not None:
            kept = clip.samples[: settings.max_steps * HOP]
            clip = replace(clip, samples=kept)
        clips.setdefault(-(-len(clip.samples) // HOP), []).append((task, clip))
    for frames, found in clips.items():
        plan, likelihood = model.plan(frames, settings.window), Likelihood()
        codes = mx.concatenate([model.encode(clip.samples) for _, clip in found])
        texts = [task.made.sentence for task, _ in found]
        seeds = [task.made.seed for task, _ in found]
        chosen = Sampling(**{k: v for k, v in settings.sampling.items() if k != "guidance"})
        run = model.edit_steps(
            codes, texts, plan, chosen, settings.guidance, seeds, pad_texts=False, likelihood=likelihood
        )
        edited = steps.edited(run, progress)
        sounds = [np.array(model.decode(edited[row : row + 1])[0]) for row in range(len(found))]
        took = (time.perf_counter() - start) / len(found)
        start = time.perf_counter()
        for row, (task, clip) in enumerate(found):
            sound = sounds[row][: len(clip.samples)]
            verb = instructions.meaning(task.made.sentence, model.bundle.config.instructions)
            told = scores(likelihood[row], sound, clip.samples, verb[0] if verb else None)
            yield _saved(task, clip, sound, settings, told, took)


def _saved(
    task: Task, clip: Clip, sound: Samples, settings: FolderSettings, told: Mapping[str, float], took: float
) -> Outcome:
    seconds = len(sound) / clip.rate
    rate = clip.source_rate if settings.keep_rate else clip.rate
    try:
        whole = settings.max_steps is None
        frames = clip.source_frames if whole else round(seconds * rate)
        sound = audio.resample(sound, clip.rate, rate, frames) if rate != clip.rate else sound
        tags = task.made.sized(len(sound)).tags()
        data, _ = audio.encoded(task.job.output, sound, rate, normalize=settings.normalize, tags=tags)
        _write(task.job.output, data)
    except NoRoom:
        raise
    except UserError as e:
        return Outcome(task.job, "failed", task.made, told, error=str(e))
    return Outcome(task.job, "done", task.made, told, seconds, took)


def _from_input(
    model: InstructMusicGen, task: Task, settings: FolderSettings, progress: Progress | None
) -> Outcome:  # fmt: skip
    start = time.perf_counter()
    try:
        clip, original = originals.load(task.job.input)
        original = original.as_bits(suffix_bits(task.job.output, original))
        found = guided(
            model, clip.samples, task.made.sentence, seed=task.made.seed, seeds=settings.guides or 1,
            max_steps=settings.max_steps, window_frames=settings.window, progress=progress, **settings.sampling,
        )  # fmt: skip
        if len(found.edit) < len(clip.samples):
            original = original.cut(round(len(found.edit) / clip.rate * original.rate))
        output = split(original, found.mask).output
        _write(task.job.output, encoded(task.job.output, output, task.made.sized(len(output.samples)).tags()))
    except NoRoom:
        raise
    except UserError as e:
        return Outcome(task.job, "failed", task.made, error=str(e))
    took = time.perf_counter() - start
    return Outcome(task.job, "done", task.made, {}, len(output.samples) / output.rate, took)


def _write(path: Path, data: bytes) -> None:
    def explain(place: Path, e: OSError) -> UserError:
        kind = NoRoom if e.errno in NO_ROOM else UserError
        return kind(f"{place}: cannot be written ({(e.strerror or str(e)).lower()}); choose another place with -o")

    whole_file.write_whole({path: data}, explain=explain)
