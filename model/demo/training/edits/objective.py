"""The loss: cross-entropy of delayed codes, with part of the history hidden, and the text side's own small task."""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .network import Model, apply_delay
from .sentences import ACTIONS, SUBJECTS, sentence

WEIGHTS = (1.6, 1.1, 0.7, 0.6)
"""Weights of the codebooks' losses."""


class SubjectProbe(nn.Module):
    """Tell action and subject from the mean hidden state of T5: it trains names that no song has. Not exported."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.action = nn.Linear(width, len(ACTIONS))
        self.subject = nn.Linear(width, len(SUBJECTS))

    def forward(self, model: Model, ids: Tensor, asked: Tensor) -> Tensor:
        """Return the cross-entropy of both over sentences [R, L] and what they ask for [R, 2]."""
        mask = (ids != 0).float()[..., None]
        mean = (model.t5(ids) * mask).sum(1) / mask.sum(1)
        return F.cross_entropy(self.action(mean), asked[:, 0]) + F.cross_entropy(self.subject(mean), asked[:, 1])


def draw_subjects(rng: random.Random, rows: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Draw sentences about any subject, and the action and subject of each."""
    asked = [(rng.randrange(len(ACTIONS)), rng.randrange(len(SUBJECTS))) for _ in range(rows)]
    return [sentence(rng, ACTIONS[action], subject) for action, subject in asked], asked


def hide_history(
    sequence: Tensor, special: int, card: int, rng: np.random.Generator, share: float, random_codes: float
) -> Tensor:
    """Hide the past from `share` of the rows: all of it or a random part becomes the special token.

    A third of the rows that are left whole have a few codes replaced by random ones (`random_codes` at most), as the
    model's own mistakes will be.
    """
    rows, books, steps = sequence.shape
    draw = rng.random(rows)
    hidden = np.where(draw < 1 - share, 0.0, np.where(draw < 1 - share * 0.46, rng.uniform(0.3, 1, rows), 1.0))
    mask = torch.tensor(rng.random((rows, 1, steps)) < hidden[:, None, None], device=sequence.device)
    noisy = np.where((draw < 1 - share) & (rng.random(rows) < 0.5), rng.uniform(0, random_codes, rows), 0.0)
    wrong = torch.tensor(rng.random((rows, books, steps)) < noisy[:, None, None], device=sequence.device)
    codes = torch.tensor(rng.integers(0, card, (rows, books, steps)), device=sequence.device)
    return torch.where(mask, special, torch.where(wrong & (sequence != special), codes, sequence))


def losses(
    model: Model, inputs: Tensor, targets: Tensor, ids: Tensor, keep: Tensor, hidden: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy of each codebook [K]; `hidden` replaces the delayed sequence that the model sees."""
    texts = len(targets) // len(inputs)
    sequence = apply_delay(targets, model.shape.card)[..., :-1] if hidden is None else hidden
    states = model(sequence, model.condition(ids, keep), model.prefix(inputs), texts)
    logits = model.logits(states, targets.shape[-1])
    each = [F.cross_entropy(part.flatten(0, 1).float(), targets[:, k].reshape(-1)) for k, part in enumerate(logits)]
    return torch.stack(each)
