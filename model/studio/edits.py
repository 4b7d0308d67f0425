"""A job's edits: candidates as rows of one batch, heard while they are made; or cut out of the input."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

import mlx.core as mx
import numpy as np

from .. import audio, memory, streaming, whole_file
from ..candidates.scores import RANKING, fit
from ..config import HOP, SAMPLE_RATE
from ..decoding.request import edit_request as checked
from ..decoding.sampling import Sampling
from ..from_input import original as originals
from ..from_input.guides import guided
from ..from_input.split import encoded, split
from ..instructions import Verb, meaning
from ..pipeline import InstructMusicGen
from ..results import edit_record as records
from ..results.edit_record import EditRecord, Maker
from .jobs import Candidate, Job

CHUNK_SECONDS = 0.5
"""Seconds of samples that are given away at once: the first ones are there after 28 steps."""


class Teller(Protocol):
    """Hears of an edit's course, and may raise to end it."""

    def progress(self, job: Job, done: int, total: int) -> None:
        """Take the steps done, and those in all."""

    def heard(self, job: Job, samples: int) -> None:
        """Take how many samples of each candidate are there."""


def make(model: InstructMusicGen, job: Job, folder: Path, teller: Teller) -> tuple[list[Candidate], str | None]:
    """Make a job's files in its folder. Return the candidates with their scores, and what they are ranked by.

    Raises what `teller` raises, as soon as a step is done, and UserError where an edit can't be made.
    """
    if job.settings.from_input:
        return _from_input(model, job, folder, teller), None
    return _plain(model, job, folder, teller)


def record(model: Maker, job: Job, seed: int) -> EditRecord:
    """Return the record of an edit, which the command line's `edit` of the same clip has too."""
    asked = job.settings
    options = {name: getattr(asked, name) for name in ("temperature", "top_k", "guidance", "from_input")}
    made = records.of(model, job.sentence, seed, options=options)
    return replace(made, input=job.input.name if job.input.whole else "input.wav", input_sha256=job.input.sha256)


def _plain(model: InstructMusicGen, job: Job, folder: Path, teller: Teller) -> tuple[list[Candidate], str | None]:
    clip = audio.load(folder / "input.wav").samples
    asked, count = job.settings, len(job.candidates)
    plan = model.plan(-(-len(clip) // HOP))
    memory.check(memory.need_of(model, plan, asked.guidance), count)
    seeds = [each.seed for each in job.candidates]
    order = checked(job.sentence, count, plan, seeds, Sampling(asked.temperature, asked.top_k), asked.guidance)
    chunks = model.chunks(
        order, [mx.array(clip)[None]], len(clip), streaming.chunk_frames(CHUNK_SECONDS), copies=count,
        progress=lambda done, total: teller.progress(job, done, total),
    )  # fmt: skip
    live = [folder / f"{each.number}.f32" for each in job.candidates]
    with closing(chunks), ExitStack() as opened:
        outputs: list[BinaryIO] = [opened.enter_context(open(path, "wb", buffering=0)) for path in live]
        ready = 0
        for chunk in chunks:
            rows = np.array(chunk.samples, "<f4")
            for output, row in zip(outputs, rows):
                whole_file.write_all(output.fileno(), row.tobytes())
            ready += rows.shape[1]
            teller.heard(job, ready)
    found = meaning(job.sentence, model.bundle.config.instructions)
    made = record(model, job, seeds[0])
    candidates = [
        _written(each, path, clip, found[0] if found else None, made) for each, path in zip(job.candidates, live)
    ]
    return ranked(candidates)


def _written(own: Candidate, live: Path, clip: audio.Samples, verb: Verb | None, made: EditRecord) -> Candidate:
    """Write the file of a candidate whose samples are all there, and score it."""
    samples = np.fromfile(live, "<f4")
    tags = records.seeded(made, own.seed).sized(len(samples)).tags()
    path = live.with_suffix(".wav")
    whole_file.write_whole({path: audio.encoded(path, samples, SAMPLE_RATE, tags=tags)[0]}, make_folders=False)
    live.unlink()
    score = fit(samples, clip, verb) if verb else float("nan")
    return Candidate(own.number, own.seed, score=score if np.isfinite(score) else None, level_db=level(samples))


def ranked(candidates: list[Candidate]) -> tuple[list[Candidate], str | None]:
    """Rank candidates by their scores, the best is 1; by nothing where one has none, or there is only one."""
    scores = [each.score for each in candidates]
    if RANKING is None or len(candidates) < 2 or None in scores:
        return candidates, None
    best = sorted(range(len(scores)), key=lambda at: -(scores[at] or 0.0))
    for rank, at in enumerate(best, 1):
        candidates[at].rank = rank
    return candidates, RANKING


def _from_input(model: InstructMusicGen, job: Job, folder: Path, teller: Teller) -> list[Candidate]:
    """Cut each candidate out of the input, as `edit --from-input --residual` does with its seed."""
    clip, original = originals.load(folder / "input.wav")
    asked, count = job.settings, len(job.candidates)
    candidates = []
    for at, own in enumerate(job.candidates):

        def tell(done: int, total: int, at: int = at) -> None:
            teller.progress(job, at * total + done, count * total)

        found = guided(
            model, clip.samples, job.sentence, seed=own.seed, guidance=asked.guidance, temperature=asked.temperature,
            top_k=asked.top_k, progress=tell,
        )  # fmt: skip
        parts = split(original, found.mask)
        made = record(model, job, own.seed).sized(len(parts.output.samples))
        wav, rest = folder / f"{own.number}.wav", folder / f"{own.number}-residual.wav"
        contents = {
            wav: encoded(wav, parts.output, made.tags()),
            rest: encoded(rest, parts.rest, records.residual(made).tags()),
        }
        whole_file.write_whole(contents, make_folders=False)
        mono = parts.output.floats().mean(axis=1)
        candidates.append(Candidate(own.number, own.seed, level_db=level(mono), residual=True))
    return candidates


def level(samples: Sequence[float] | audio.Samples) -> float | None:
    """Return the RMS of samples [n] in dB of full scale; None for silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return 10 * float(np.log10(power)) if power > 0 else None
