"""Run a model over given tokens, exactly as generation would, and keep the logits it would have sampled from."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from ...decoding.decode import Decoder
from ...decoding.delay_pattern import apply_delay, frame_index, positions, undo_delay, with_special
from ...decoding.guidance import guide
from ...decoding.sampling import Sampling
from ...network.adapter import Adapter
from ...network.transformer import LanguageModel
from ...pipeline import InstructMusicGen
from ...progress import track
from .inputs import Material

Float32 = npt.NDArray[np.float32]


class Networks(NamedTuple):
    """The parts of a model that a decoder needs."""

    lm: LanguageModel
    adapter: Adapter


def decoder(
    model: InstructMusicGen | Networks, condition: mx.array, guidance: float, sampling: Sampling | None = None
) -> Decoder:
    """Return what stays the same for a text condition [1,L,dim]."""
    return Decoder(model.lm, model.adapter, model.lm.text_kv(condition), guidance, sampling or Sampling())


def generated(decoder: Decoder, material: Material, seed: int, label: str = "model") -> mx.array:
    """Return what the model generates for it: codes int32 [1,K,T].

    `label` is shown with the progress, as in `forced`.
    """
    clip = with_special(material.condition, decoder.lm.config.special)
    every = decoder.tokens(clip, clip[:, :, :0], material.frames, [seed])
    total = positions(material.frames, clip.shape[1])
    chunks = list(track(every, f"{label}: {material.title}: generating", total))
    return undo_delay(mx.concatenate(chunks, axis=2), material.frames)


def expected(target: mx.array, special: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the tokens that follow each position but the last, and which of them the pattern holds; both [S-1,K]."""
    frames = target.shape[2]
    sequence, _ = apply_delay(target, frames, special)
    inside = frame_index(frames, target.shape[1]) >= 0
    return np.array(sequence)[0].T[1:].astype(np.int64), inside.T[1:]


def forced(decoder: Decoder, material: Material, target: mx.array, label: str = "model") -> Float32:
    """Return the guided logits [S-1,K,card] of a generation whose every token is `target`'s, position by position."""
    frames = material.frames
    sequence, _ = apply_delay(target, frames, decoder.lm.config.special)
    stream = decoder.start(with_special(material.condition, decoder.lm.config.special), frames)
    rows = []
    for position in track(range(sequence.shape[2] - 1), f"{label}: {material.title}: forcing"):
        logits = decoder.predict(stream, sequence[:, :, position : position + 1])
        mx.eval(logits)
        rows.append(np.array(logits[0]))
    return np.stack(rows)


class TeacherWindow(NamedTuple):
    """The first T positions of a target, which run at once: both rows of the guidance pair. Quicker than `forced`."""

    tokens: mx.array
    """int32 [2,K,T], or [1,K,T] without guidance, in the delay pattern."""
    clip: mx.array
    """int32 [1,K,T+1]: the clip's codes and the special frame."""
    frames: int


def teacher_window(material: Material, target: mx.array, special: int, guided: bool) -> TeacherWindow:
    """Return the first T of `target`'s T + K positions; the later ones would read a clamped prefix query."""
    sequence, _ = apply_delay(target, material.frames, special)
    tokens = sequence[:, :, : material.frames]
    return TeacherWindow(
        mx.concatenate([tokens] * (1 + guided)), with_special(material.condition, special), material.frames
    )


def window_logits(decoder: Decoder, part: TeacherWindow) -> Float32:
    """Return the guided logits float32 [T,K,card] of all positions of a window at once."""
    logits = decoder.lm.logits(decoder.start(part.clip, part.frames)(part.tokens))
    logits = guide(logits, decoder.guidance) if decoder.guided else logits
    return np.asarray(np.array(logits[0]).transpose(1, 0, 2), dtype=np.float32)
