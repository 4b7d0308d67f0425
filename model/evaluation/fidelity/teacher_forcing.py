"""Run a model over given tokens, exactly as generation would, and keep the logits it would have sampled from."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from ...decoding.decode import Decoder
from ...decoding.delay_pattern import delayed, frame_index, positions, undelayed, with_special
from ...decoding.guidance import guide
from ...decoding.sampling import Sampling
from ...network.adapter import Adapter
from ...network.transformer import LanguageModel
from ...pipeline import InstructMusicGen
from ...progress import track
from .inputs import Material

Float32 = npt.NDArray[np.float32]


class Networks(NamedTuple):
    """What a job needs of a model."""

    lm: LanguageModel
    adapter: Adapter


def job(
    model: InstructMusicGen | Networks, condition: mx.array, guidance: float, sampling: Sampling | None = None
) -> Decoder:
    """Return what stays the same for a text condition [1,L,dim]."""
    return Decoder(model.lm, model.adapter, model.lm.text_kv(condition), guidance, sampling or Sampling())


def generated(job: Decoder, material: Material, seed: int, label: str = "model") -> mx.array:
    """Return what the model generates for it: codes int32 [1,K,T].

    `label` is shown with the progress, as in `forced`.
    """
    clip = with_special(material.condition, job.lm.config.special)
    every = job.tokens(clip, clip[:, :, :0], material.frames, [seed])
    total = positions(material.frames, clip.shape[1])
    chunks = list(track(every, f"{label}: {material.title}: generating", total))
    return undelayed(mx.concatenate(chunks, axis=2), material.frames)


def expected(target: mx.array, special: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the tokens that follow each position but the last, and which of them the pattern holds; both [S-1,K]."""
    frames = target.shape[2]
    sequence, _ = delayed(target, frames, special)
    inside = frame_index(frames, target.shape[1]) >= 0
    return np.array(sequence)[0].T[1:].astype(np.int64), inside.T[1:]


def forced(job: Decoder, material: Material, target: mx.array, label: str = "model") -> Float32:
    """Guided logits [S-1,K,card] of a generation that is made to say `target`, one position at a time."""
    frames = material.frames
    sequence, _ = delayed(target, frames, job.lm.config.special)
    stream = job.start(with_special(material.condition, job.lm.config.special), frames)
    rows = []
    for position in track(range(sequence.shape[2] - 1), f"{label}: {material.title}: forcing"):
        logits = job.predict(stream, sequence[:, :, position : position + 1])
        mx.eval(logits)
        rows.append(np.array(logits[0]))
    return np.stack(rows)


class Chunk(NamedTuple):
    """The first T positions of a target at once: both rows of the guidance pair, [2,K,T]; quicker than `forced`."""

    tokens: mx.array
    clip: mx.array
    frames: int


def chunk(material: Material, target: mx.array, special: int, guided: bool) -> Chunk:
    """`material`'s chunk; the last K positions, whose query row is clamped, are left out."""
    sequence, _ = delayed(target, material.frames, special)
    tokens = sequence[:, :, : material.frames]
    return Chunk(mx.concatenate([tokens] * (1 + guided)), with_special(material.condition, special), material.frames)


def chunk_logits(job: Decoder, part: Chunk) -> Float32:
    """Guided logits [T,K,card] of a chunk."""
    logits = job.lm.logits(job.start(part.clip, part.frames)(part.tokens))
    logits = guide(logits, job.guidance) if job.guided else logits
    return np.asarray(np.array(logits[0]).transpose(1, 0, 2), dtype=np.float32)
