"""Section 4 and 6: delay pattern, guidance, greedy generation, windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .adapter import prefixes
from .files import Upstream
from .language_model import logits
from .numbers import Array, Margin
from .text import condition


def frame_index(frames: int) -> Array:
    """[4, frames+4]: the frame that position j of codebook k holds, or -1 for the special token."""
    index = np.arange(frames + 4)[None, :] - 1 - np.arange(4)[:, None]
    return np.where((index >= 0) & (index < frames), index, -1)


def delayed(codes: Array, special: int) -> Array:
    """[B,K,T] -> [B,K,T+4]."""
    index = frame_index(codes.shape[2])
    shifted = np.stack([codes[:, k, index[k]] for k in range(4)], axis=1)
    return np.where(index >= 0, shifted, special)


def undo_delay(sequence: Array) -> Array:
    frames = sequence.shape[2] - 4
    return np.stack([sequence[:, k, k + 1 : k + 1 + frames] for k in range(4)], axis=1)


def guided(
    up: Upstream, sequence: Array, clip: Array, cond: Array, rows: int, guidance: float = 3.0
) -> tuple[Array, Array, Array]:
    """Guided, conditional and unconditional logits [B,K,S,V]; `clip` has its extra frame."""
    prefix = prefixes(up, clip)
    c = logits(up, sequence, cond, prefix, rows)
    u = logits(up, sequence, np.zeros_like(cond), prefix, rows)
    return u + (c - u) * guidance, c, u


@dataclass
class Greedy:
    """Argmax generation for one batch of texts."""

    up: Upstream
    texts: Sequence[str]
    guidance: float = 3.0
    margin: Margin = field(default_factory=Margin)
    largest: float = 0.0
    """Magnitude of the scores seen."""

    def __call__(self, clip: Array, frames: int, prompt: Array | None = None) -> Array:
        """[B,K,frames] for a clip [B,K,n] with its extra frame; `prompt` [B,K,P] holds the first P frames."""
        up, special = self.up, self.up.card
        known = np.full((clip.shape[0], 4, frames), -1)
        if prompt is not None:
            known[:, :, : prompt.shape[2]] = prompt
        sequence = delayed(known, special)
        cond, prefix = condition(up, self.texts), prefixes(up, clip)
        for j in range(1, frames + 4):
            open_ = sequence[:, :, j] == -1
            if not open_.any():
                continue
            past = sequence[:, :, :j]
            c = logits(up, past, cond, prefix, frames)[:, :, -1]
            u = logits(up, past, np.zeros_like(cond), prefix, frames)[:, :, -1]
            scores = u + (c - u) * self.guidance
            self.margin.note(scores[open_])
            self.largest = max(self.largest, float(np.abs(scores).max()))
            sequence[:, :, j] = np.where(open_, scores.argmax(axis=-1), sequence[:, :, j])
        return undo_delay(sequence)


Generate = Callable[[Array, int, "Array | None"], Array]


def upstream_windows(n: int, max_duration: float, extend_stride: float) -> list[tuple[int, int, int]]:
    """(offset, frames, prompt) of upstream's windows over n frames, in its own floating-point arithmetic."""
    windows, stride = [], int(50 * extend_stride)
    offset = prompt = 0
    while offset + prompt < n:
        frames = int(min(n / 50 - offset / 50, max_duration) * 50)
        if prompt >= frames:
            break
        windows.append((offset, frames, prompt))
        prompt = max(frames - stride, 0)
        offset += stride
        if offset > 4000:
            break
    return windows


def windowed(codes: Array, special: int, max_duration: float, extend_stride: float, generate: Generate) -> Array:
    """Upstream's edit of codes [B,K,N] (without the extra frame), with the frames it loses and skips."""
    clips = np.concatenate([codes, np.full((*codes.shape[:2], 1), special)], axis=2)
    pieces: list[Array] = []
    made = codes[:, :, :0]
    for offset, frames, p in upstream_windows(codes.shape[2], max_duration, extend_stride):
        prompt = made[:, :, made.shape[2] - p :] if p else None
        made = generate(clips[:, :, offset : offset + frames + 1], frames, prompt)
        pieces.append(made[:, :, p:])
    return np.concatenate(pieces, axis=2)


def exact_windows(codes: Array, special: int, window: int, stride: int, generate: Generate) -> Array:
    """The same rule in integers: no frame is lost to rounding."""
    n = codes.shape[2]
    clips = np.concatenate([codes, np.full((*codes.shape[:2], 1), special)], axis=2)
    result = codes[:, :, :0]
    for offset in range(0, n, stride):
        frames = min(window, n - offset)
        prompt = result[:, :, offset:]
        if prompt.shape[2] >= frames:
            break
        made = generate(clips[:, :, offset : offset + frames + 1], frames, prompt if prompt.shape[2] else None)
        result = np.concatenate([result[:, :, :offset], made], axis=2)
    return result


def chosen_probabilities(scores: Array, temperature: float, top_k: int) -> Array:
    """What sampling draws from: softmax, threshold at the k-th largest probability with ties kept, renormalised."""
    e = np.exp((scores - scores.max(axis=-1, keepdims=True)) / temperature)
    p = e / e.sum(axis=-1, keepdims=True)
    threshold = np.sort(p, axis=-1)[..., -top_k][..., None]
    kept = np.where(p >= threshold, p, 0)
    return np.asarray(kept / kept.sum(axis=-1, keepdims=True))
