"""Edits of one clip that say what belongs to an instrument and what does not: all of them rows of one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from .. import checks, memory
from ..audio import Samples
from ..config import HOP
from ..decoding import steps
from ..decoding.guidance import MAX_GUIDANCE
from ..decoding.sampling import Sampling
from ..errors import UserError
from ..instructions import Verb, Vocabulary, meaning, sentence
from ..pipeline import Array, InstructMusicGen
from ..progress import Progress
from .mask import EXCESS, SHARPNESS, Floats, Mask, mask, powers


@dataclass(frozen=True)
class Guided:
    """The plain edit float32 [n] at 32 kHz with the first seed, and the mask made of the edits with all seeds."""

    edit: Samples
    mask: Mask


def guided(
    model: InstructMusicGen,
    samples: Array,
    text: str,
    *,
    seed: int = 0,
    seeds: int = 1,
    max_steps: int | None = None,
    guidance: float = 3.0,
    window_frames: int | None = None,
    progress: Progress | None = None,
    sharpness: float = SHARPNESS,
    excess: float | None = None,
    **sampling: Any,
) -> Guided:
    """Edit samples [n] at 32 kHz as an Only or No sentence says, and as its opposites say, and make a mask of them.

    For "Only Drums" and "No Drums" alike the rows are: only the drums, no drums, and only each other instrument that
    the model knows; `seeds` of each, from `seed` on. If the instrument is not one that the model was trained on, only
    the first two. sharpness, excess: see `model.from_input.mask`. The other arguments are `generate`'s.

    Raises UserError for a sentence that is neither Only nor No, and where memory does not suffice; ValueError for
    samples of another shape than [n], and for arguments out of range.
    """
    vocabulary = model.bundle.config.instructions
    verb, texts = opposites(text, vocabulary)
    clip = checks.samples(samples)
    if clip.ndim != 1:
        raise ValueError(f"audio has shape {tuple(clip.shape)}; it must be one clip, [samples]")
    if max_steps is not None:
        clip = clip[: min(checks.whole("max_steps", max_steps, 1) * HOP, clip.shape[0])]
    guidance = checks.number("guidance", guidance, -MAX_GUIDANCE, MAX_GUIDANCE)
    chosen, plan = Sampling(**sampling), model.plan(-(-clip.shape[0] // HOP), window_frames)
    rows = [(each, (seed + n) % 2**64) for n in range(checks.whole("seeds", seeds, 1)) for each in texts]
    memory.check(memory.need_of(model, plan, guidance), len(rows))
    codes = mx.repeat(model.encode(clip), len(rows), axis=0)
    run = model.edit_steps(
        codes, [each for each, _ in rows], plan, chosen, guidance, [own for _, own in rows], pad_texts=False
    )
    edited = steps.edited(run, progress)
    sounds = [np.array(model.decode(edited[row : row + 1])[0, : clip.shape[0]]) for row in range(len(rows))]
    found = [powers(sound) for sound in sounds]
    groups = [found[at : at + len(texts)] for at in range(0, len(found), len(texts))]
    plain = sounds[texts.index(asked_for(text, vocabulary))]
    return Guided(plain, of_powers(verb, groups, sharpness, excess))


def asked_for(text: str, vocabulary: Vocabulary, option: str = "--from-input") -> str:
    """Return the trained sentence of an Only or No.

    Raises UserError for any other sentence; `option` is what the message says to omit.
    """
    found = meaning(text, vocabulary)
    if found is None or found[0] == "Add":
        raise UserError(
            f'"{text:.80}": the input\'s own sound is kept for sentences that say Only or No and one instrument; '
            f"omit {option}"
        )
    return sentence(*found)


def opposites(text: str, vocabulary: Vocabulary) -> tuple[Verb, list[str]]:
    """Return the verb and the sentences: Only the instrument, No the instrument, Only each other one of `vocabulary`.

    If the instrument is not in `vocabulary`, only the first two: others might be a part of it. Raises UserError for a
    sentence that is neither Only nor No.
    """
    found = meaning(asked_for(text, vocabulary), vocabulary)
    assert found is not None
    verb, name = found
    others = [each for each in vocabulary.instruments if each != name] if name in vocabulary.instruments else []
    return verb, [sentence("Only", name), sentence("No", name), *(sentence("Only", each) for each in others)]


def of_powers(
    verb: Verb, groups: Sequence[Sequence[Floats]], sharpness: float = SHARPNESS, excess: float | None = None
) -> Mask:
    """Make the mask from the powers of the opposites' edits, a group for each seed.

    What is not the instrument is estimated twice: from the edit without it, and from the sum of the other instruments'
    edits; the mean varies less than either. excess: `EXCESS` by default.
    """
    own = np.mean([group[0] for group in groups], axis=0)
    rests = [np.mean([group[1], np.sum(group[2:], axis=0)], axis=0) if len(group) > 2 else group[1] for group in groups]
    rest = np.mean(rests, axis=0)
    stays, goes = (own, rest) if verb == "Only" else (rest, own)
    return mask(stays, goes, sharpness=sharpness, excess=EXCESS[verb] if excess is None else excess)
