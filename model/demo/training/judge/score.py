"""Score one edit against the song's true stems."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ....evaluation.measures.notes import Roll, f1, piano_roll
from ....evaluation.measures.onsets import onset_f, onsets
from ....spectra import Array, distance, log_mel

LOUDER = 6.0
"""Decibels by which a stem must exceed the rest to own a cell of the spectrogram."""

CANDIDATES = (1, 2, 4, 8, 14, 13, 11, 7, 15)
"""Mixtures (masks of stems) that an edit of Only or No is compared with: stems, mixes without one, the mix."""


def mask_of(action: str, stem: int) -> tuple[int, int]:
    """Return the mixtures that an edit starts from and should arrive at."""
    bit = 1 << stem
    return {"only": (15, bit), "no": (15, 15 ^ bit), "add": (15 ^ bit, 15)}[action]


@dataclass(frozen=True)
class Truth:
    """A song's stems float32 [4, n], and by mask its mixtures [n] after the codec's round trip."""

    stems: Array
    coded: dict[int, Array]

    @cached_property
    def spectra(self) -> dict[int, Array]:
        """Return the log-mels of the round trips."""
        return {mask: log_mel(audio) for mask, audio in self.coded.items()}

    def mixture(self, mask: int) -> Array:
        """Return a true mixture [n]."""
        return np.asarray(self.stems[[k for k in range(4) if mask >> k & 1]].sum(axis=0), np.float32)

    def owned(self, stem: int) -> npt.NDArray[np.bool_]:
        """Return the cells in which a stem is louder than the rest by `LOUDER` dB."""
        rest = self.mixture(15 ^ (1 << stem))
        return np.asarray(log_mel(self.stems[stem]) > log_mel(rest) + LOUDER)


def nearest(spectrum: Array, truth: Truth) -> int:
    """Return the candidate (mask) whose log-mel is nearest."""
    return min(CANDIDATES, key=lambda mask: distance(spectrum, truth.spectra[mask]))


def score(edit: Array, action: str, stem: int, truth: Truth, other: Array | None, notes: bool) -> dict[str, float]:
    """Score an edit [n]; `other` is another song's target after the codec [n], the floor.

    Distances are in dB. For Only and Add: `edit`, `untouched`, `floor` against the coded target; `ceiling` is the
    coded target against the true one. For No the same in the cells of the removed stem, and `kept` elsewhere, whose
    ceiling is the untouched input's. `nearest` is 1 if the target is the nearest candidate.
    """
    source, target = mask_of(action, stem)
    spectrum, wanted, before = log_mel(edit), truth.spectra[target], truth.spectra[source]
    cells = truth.owned(stem)
    where = cells if action == "no" else None
    row = {
        "nearest": float(nearest(spectrum, truth) == target),
        "edit": distance(spectrum, wanted, where),
        "untouched": distance(before, wanted, where),
        "ceiling": distance(wanted, log_mel(truth.mixture(target)), where),
    }
    if other is not None:
        row["floor"] = distance(log_mel(other), wanted, where)
    if action == "no":
        row["kept"], row["kept untouched"] = distance(spectrum, wanted, ~cells), distance(before, wanted, ~cells)
    if action == "add":
        row["kept"] = distance(spectrum, before, ~cells)
        row["kept truly"] = distance(wanted, before, ~cells)
    if action == "only" and stem == 0:
        row["onsets"] = onset_f(onsets(edit), onsets(truth.mixture(target)))
        row["onsets ceiling"] = onset_f(onsets(truth.coded[target]), onsets(truth.mixture(target)))
    elif notes:
        true = _roll(truth, source if action == "add" else target)
        row["notes"] = f1(piano_roll(edit), true)
        row["notes ceiling"] = f1(piano_roll(truth.coded[target]), true)
    return row


def _roll(truth: Truth, mask: int) -> Roll:
    return piano_roll(truth.mixture(mask))
