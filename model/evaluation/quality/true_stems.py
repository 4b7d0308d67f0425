"""What only true stems can tell: the right notes, the right onsets, and whether the true answer is the nearest one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ...spectra import distance, log_mel
from ..measures.notes import f1, missing, piano_roll
from ..measures.onsets import onset_f, onsets
from .instructions import Instruction, Stems, truth

Samples = npt.NDArray[np.float32]


class TrueStems:
    """One clip's stems. `through` takes a recording through the codec and back: candidates pass it as edits do."""

    def __init__(self, stems: Stems, through: Callable[[Samples], Samples]) -> None:
        self.stems, self._through = stems, through
        self._answers: dict[tuple[Instruction, str], Any] = {}
        """What is heard in each true answer, by measure."""

    @cached_property
    def candidates(self) -> dict[str, npt.NDArray[np.float32]]:
        """Log-mels of each stem, of the clip without each, and of all, by what they are."""
        every = np.asarray(sum(self.stems.values()), dtype=np.float32)
        sounds = {"all": every}
        for name, stem in self.stems.items():
            sounds[f"only {name}"] = stem
            sounds[f"remove {name}"] = np.asarray(every - stem, dtype=np.float32)
        return {name: log_mel(self._through(sound)) for name, sound in sounds.items()}

    def score(self, instruction: Instruction, samples: Samples) -> dict[str, float | None]:
        """Score a recording [n]; scores that cannot be told are left out."""
        wanted = truth(instruction, self.stems)
        if wanted is None or len(samples) < 4096:
            return {}
        measures: dict[str, tuple[Callable[[Samples], Any], Callable[[Any, Any], float]]]
        measures = {"onset F": (onsets, onset_f)} | ({} if missing() else {"notes F1": (piano_roll, f1)})
        scores: dict[str, float | None] = {}
        for name, (hear, compare) in measures.items():
            if (instruction, name) not in self._answers:
                self._answers[instruction, name] = hear(wanted)
            scores[name] = compare(hear(samples), self._answers[instruction, name])
        if instruction.verb in ("only", "remove") and len(self.stems) > 1:
            spectrum = log_mel(samples)
            nearest = min(self.candidates, key=lambda name: distance(spectrum, self.candidates[name]))
            scores["nearest"] = float(nearest == f"{instruction.verb} {instruction.stem}")
        return scores
