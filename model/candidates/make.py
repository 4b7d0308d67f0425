"""Make candidates: one clip, one sentence, several seeds, in batches of rows that each come out as if alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from .. import audio, checks, instructions, memory
from ..config import FRAME_RATE, HOP, SAMPLE_RATE
from ..decoding import steps
from ..decoding.guidance import MAX_GUIDANCE
from ..decoding.likelihood import Likelihood
from ..decoding.sampling import Sampling
from ..pipeline import Array, InstructMusicGen
from ..progress import Progress
from ..results import edit_record as records
from ..results.edit_record import EditRecord
from ..results.edited import Edited, taken
from ..results.page import Sound, page
from .clap import Clap, clap_of
from .scores import RANKING, WHAT, scores


@dataclass(frozen=True)
class Candidates:
    """Edits of one clip, the best first by the score that `ranked_by` names, or in the order of their seeds if None."""

    edits: tuple[Edited, ...]
    ranked_by: str | None

    @property
    def best(self) -> Edited:
        """Return the first one."""
        return self.edits[0]

    def _repr_html_(self) -> str:
        """Show the input and every candidate with a player and a spectrogram."""
        first = self.best
        sounds = [] if first.before is None else [Sound("input", first.before, first.rate)]
        for rank, each in enumerate(self.edits, 1):
            score = f", {self.ranked_by} {each.scores[self.ranked_by]:.3g}" if self.ranked_by else ""
            sounds.append(Sound(f"{rank}: seed {each.made.seed}{score}", each.samples, each.rate))
        return page(sounds)


def candidates(
    model: InstructMusicGen,
    clip: str | os.PathLike[str] | audio.Clip | Array,
    text: str,
    count: int = 4,
    *,
    seed: int | Sequence[int] = 0,
    rank_by: str | None = RANKING,
    clap: Clap | None = None,
    max_steps: int | None = None,
    guidance: float = 3.0,
    window_frames: int | None = None,
    progress: Progress | None = None,
    record: EditRecord | None = None,
    **sampling: Any,
) -> Candidates:
    """Edit a file, a loaded clip or samples [n] at 32 kHz `count` times as `text` says, and rank the results.

    seed: the first one, the others follow it; or one each. Every candidate equals `generate` with its seed, to the bit
    where `generate` promises that of a batch. rank_by: a name of `model.candidates.scores.WHAT`, or None. clap: gives
    each the score "clap" too. record: the one that the files get, in place of one that is made here. The rest is as
    of `generate`.

    Raises UserError if there is not memory for so many, naming how many fit, and what `generate` raises.
    """
    count = checks.whole("count", count, 1)
    if rank_by is not None and rank_by not in WHAT:
        raise ValueError(f"rank_by={rank_by!r:.40} must be one of {', '.join(WHAT)}, or None")
    source, given = taken(clip)
    samples = checks.samples(given)
    if samples.ndim != 1:
        raise ValueError(f"audio has shape {tuple(samples.shape)}; candidates are of one clip, [samples]")
    if max_steps is not None:
        samples = samples[: min(checks.whole("max_steps", max_steps, 1) * HOP, samples.shape[0])]
    seeds = checks.seeds([(seed + n) % 2**64 for n in range(count)] if isinstance(seed, int) else seed, count)
    guidance = checks.number("guidance", guidance, -MAX_GUIDANCE, MAX_GUIDANCE)
    chosen = Sampling(**sampling)
    vocabulary = model.bundle.config.instructions
    said = instructions.trained(text, vocabulary)
    frames = -(-samples.shape[0] // HOP)
    plan = model.plan(frames, window_frames)
    memory.check(memory.need_of(model, plan, guidance), count)

    codes = mx.repeat(model.encode(samples), count, axis=0)
    likelihood = Likelihood()
    run = model.edit_steps(codes, [said] * count, plan, chosen, guidance, seeds, likelihood=likelihood)
    edited = steps.edited(run, progress)
    before, found = np.array(samples, np.float32), instructions.meaning(said, vocabulary)
    options = {**sampling, "guidance": guidance, "max_steps": max_steps,
               "window": None if window_frames is None else window_frames / FRAME_RATE}  # fmt: skip
    record = record or records.of(model, said, 0, source=source, options=options)
    edits = []
    for row, own in enumerate(seeds):
        sound = np.array(model.decode(edited[row : row + 1])[0, : len(before)])
        told = scores(likelihood[row], sound, before, found[0] if found else None)
        if clap is not None:
            told["clap"] = clap_of(clap, sound, SAMPLE_RATE, said, vocabulary)
        edits.append(Edited(sound, SAMPLE_RATE, records.seeded(record, own), before, told))
    return ranked(edits, rank_by)


def ranked(edits: Sequence[Edited], by: str | None) -> Candidates:
    """Order edits by a score, the best first; those that are equal stay in order. By none of them if one lacks it."""
    if by is None or not all(by in each.scores for each in edits):
        return Candidates(tuple(edits), None)
    return Candidates(tuple(sorted(edits, key=lambda each: -each.scores[by])), by)
