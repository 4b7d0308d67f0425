"""How probable the chosen tokens were, summed on the device while they are generated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LogProbabilities:
    """Mean log-probabilities of one row's chosen tokens, float64 [K], one for each codebook.

    Each is of the model's own distribution, before temperature and top-k. Tokens that were given (a prompt, the special
    token of the delay pattern) don't count. Without guidance there are no unconditional rows: NaN.
    """

    conditional: npt.NDArray[np.float64]
    unconditional: npt.NDArray[np.float64]
    guided: npt.NDArray[np.float64]

    @property
    def gap(self) -> npt.NDArray[np.float64]:
        """Conditional minus unconditional [K]: how much more probable the sentence makes these tokens."""
        return self.conditional - self.unconditional


@dataclass
class Likelihood:
    """Sums for the rows of an edit, by the clip's number; `InstructMusicGen.edit_steps` fills it."""

    _sums: dict[int, tuple[Tally, int]] = field(default_factory=dict)

    def part(self, rows: Sequence[int], guided: bool) -> Tally:
        """Begin to sum rows that run together."""
        tally = Tally(guided)
        self._sums |= {row: (tally, at) for at, row in enumerate(rows)}
        return tally

    def __getitem__(self, row: int) -> LogProbabilities:
        """Return one row's means. Raises KeyError for a row that was not edited."""
        tally, at = self._sums[row]
        return tally.means(at)


class Tally:
    """The sums of rows that run together."""

    def __init__(self, guided: bool) -> None:
        self.guided = guided
        self.sums: mx.array | None = None
        """float32 [3,B,K]: conditional, unconditional, guided."""
        self._counts: npt.NDArray[np.int64] | int = 0

    def add(self, raw: mx.array, guided: mx.array, chosen: mx.array, known: npt.NDArray[np.bool_]) -> mx.array:
        """Add a position, lazily, and return the sums so far, to be evaluated with the tokens.

        raw: logits float32 [2B,K,card], the conditional rows first, or [B,K,card] without guidance; guided: those that
        tokens were chosen by, [B,K,card]; chosen: int32 [B,K]; known: bool [K], codebooks whose token was given.
        """
        conditional, unconditional = mx.split(raw, 2) if self.guided else (raw, raw)
        each = mx.stack([_log_probability(x, chosen) for x in (conditional, unconditional, guided)])
        free = ~np.asarray(known)
        if not free.all():
            each = mx.where(mx.array(free), each, 0.0)
        self.sums = each if self.sums is None else self.sums + each
        self._counts = self._counts + free.astype(np.int64)
        return self.sums

    def means(self, row: int) -> LogProbabilities:
        """Return the means of one row of these."""
        if self.sums is None:
            raise ValueError("no position was generated")
        sums = np.array(self.sums, dtype=np.float64)[:, row]
        conditional, unconditional, guided = sums / np.maximum(self._counts, 1)
        if not self.guided:
            unconditional = np.full_like(conditional, math.nan)
        return LogProbabilities(conditional, unconditional, guided)


def _log_probability(logits: mx.array, chosen: mx.array) -> mx.array:
    """Return the log-probabilities [B,K] of tokens [B,K] under logits [B,K,card]."""
    picked = mx.take_along_axis(logits, mx.minimum(chosen, logits.shape[-1] - 1)[..., None], axis=-1)[..., 0]
    return picked - mx.logsumexp(logits, axis=-1)
