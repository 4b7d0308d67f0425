"""Edit clips with every variant and score what comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Protocol

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from ... import audio
from ...candidates.clap import clap_score
from ...config import HOP, SAMPLE_RATE
from ...pipeline import InstructMusicGen
from ...progress import track
from ..measures.log_mel import log_mel_distance
from ..measures.si_sdr import si_sdr
from ..variant import Variant
from .instructions import Instruction, Stems, stems, truth, with_remains
from .true_stems import TrueStems

Samples = npt.NDArray[np.float32]
Key = tuple[str, str, str]
"""Clip, instruction, seed ("-" where no seed plays a part)."""

INPUT, CODEC = "input, untouched", "input through the codec"
TRUE, CEILING = "true stems", "true stems through the codec"


class Scorer(Protocol):
    """The methods of `model.candidates.clap.Clap` that are used here."""

    def text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return unit embeddings [n, d]."""
        ...

    def audio(self, samples: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
        """Return the embedding [d] of a recording."""
        ...


@dataclass(frozen=True)
class QualitySettings:
    """The settings of generation; `seconds` cuts the clips."""

    seeds: tuple[int, ...] = (0, 1, 2)
    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int = 250
    greedy: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class QualityClip:
    """A clip, its name, and its true stems if it has any."""

    name: str
    samples: Samples
    stems: Stems = field(default_factory=dict)


@dataclass
class Row:
    """One line of the tables: values by measure, then by clip, instruction and seed."""

    label: str
    values: dict[str, dict[Key, float]] = field(default_factory=dict)
    embeddings: dict[Key, Samples] = field(default_factory=dict)
    """Each recording's embedding, for what is measured over whole sets."""

    def add(self, key: Key, scores: dict[str, float | None], heard: Samples | None = None) -> None:
        """Keep a recording's scores and embedding; None is not kept."""
        if heard is not None:
            self.embeddings[key] = heard
        for measure, value in scores.items():
            if value is not None:
                self.values.setdefault(measure, {})[key] = value


def load_clips(files: Sequence[Path], stem_folder: Path | None, seconds: float | None) -> list[QualityClip]:
    """Load audio files as float32 mono at 32 kHz, the first `seconds` of each."""
    out = []
    for file in files:
        samples = audio.load(file).samples
        samples = samples[: max(HOP, round(seconds * SAMPLE_RATE))] if seconds is not None else samples
        out.append(QualityClip(file.stem, samples, stems(stem_folder, file.stem, len(samples)) if stem_folder else {}))
    return out


def measure(
    variants: Sequence[Variant], clips: Sequence[QualityClip], instructions: Sequence[Instruction],
    settings: QualitySettings, scorer: Scorer | None, keep: Path | None = None,
) -> list[Row]:  # fmt: skip
    """Return rows for the input, the codec and (with stems) the truth, then one for each variant.

    All are measured on the same cells.
    """
    first = variants[0].load()
    judge = _Judge(scorer, {c.name: TrueStems(c.stems, partial(_through, first)) for c in clips if c.stems})
    rows = [Row(INPUT), Row(CODEC)] + ([Row(TRUE), Row(CEILING)] if any(c.stems for c in clips) else [])
    for clip in track(clips, "scoring the inputs"):
        through = _through(first, clip.samples)
        for instruction in instructions:
            key = (clip.name, instruction.text, "-")
            rows[0].add(key, *judge.score(clip, instruction, clip.samples))
            rows[1].add(key, *judge.score(clip, instruction, through))
            wanted = truth(instruction, clip.stems) if clip.stems else None
            if wanted is not None:
                rows[2].add(key, *judge.score(clip, instruction, wanted))
                rows[3].add(key, *judge.score(clip, instruction, _through(first, wanted)))
    references: dict[Key, Samples] = {}
    for number, variant in enumerate(variants):
        model = first if number == 0 else variant.load()
        row = Row(variant.label)
        codes = {clip.name: model.encode(mx.array(clip.samples)) for clip in clips}
        cells = list(product(clips, instructions, settings.seeds))
        for clip, instruction, seed in track(cells, f"{variant.label}: editing and scoring"):
            key = (clip.name, instruction.text, str(seed))
            edited = _edit(model, codes[clip.name], instruction, settings, seed)[: len(clip.samples)]
            reference = references.setdefault(key, edited)
            scores, heard = judge.score(clip, instruction, edited)
            scores["log-mel to reference"] = log_mel_distance(edited, reference, SAMPLE_RATE)
            row.add(key, scores, heard)
            if keep is not None:
                _save(keep, variant.label, key, edited)
        rows.append(row)
        if number:
            del model
        mx.clear_cache()
    return rows


def _through(model: InstructMusicGen, samples: Samples) -> Samples:
    """Return a recording through the codec and back."""
    return np.array(model.decode(model.encode(mx.array(samples))))[0, : len(samples)]


def _edit(
    model: InstructMusicGen, codes: mx.array, instruction: Instruction, settings: QualitySettings, seed: int
) -> Samples:
    edited = model.edit_codes(
        codes, instruction.text, seed=seed, guidance=settings.guidance, temperature=settings.temperature,
        top_k=settings.top_k, greedy=settings.greedy,
    )  # fmt: skip
    return np.asarray(model.decode(edited)[0], dtype=np.float32)


def _save(folder: Path, label: str, key: Key, samples: Samples) -> None:
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in f"{key[0]}-{key[1]}-{key[2]}-{label}")
    folder.mkdir(parents=True, exist_ok=True)
    audio.save(folder / f"{name}.wav", samples, SAMPLE_RATE)


class _Judge:
    """Scores a recording; embeddings of texts and inputs are computed once."""

    def __init__(self, scorer: Scorer | None, true: Mapping[str, TrueStems]) -> None:
        self.scorer, self._true = scorer, true
        self._texts: dict[str, npt.NDArray[np.float32]] = {}
        self._inputs: dict[str, npt.NDArray[np.float32]] = {}

    def score(
        self, clip: QualityClip, instruction: Instruction, samples: Samples
    ) -> tuple[dict[str, float | None], Samples | None]:
        """Score one recording by every measure that applies, and return its embedding too."""
        heard: Samples | None = None
        out: dict[str, float | None] = {"log-mel to input": log_mel_distance(samples, clip.samples, SAMPLE_RATE)}
        wanted = truth(instruction, clip.stems) if clip.stems else None
        if wanted is not None:
            out["SI-SDR"] = si_sdr(samples, wanted)
            before = si_sdr(clip.samples, wanted)
            # An input that is the answer already (adding what is there) leaves nothing to gain.
            out["SI-SDRi"] = _gain(out["SI-SDR"], before) if math.isfinite(before) else None
            out["log-mel to truth"] = log_mel_distance(samples, wanted, SAMPLE_RATE)
            out |= self._true[clip.name].score(instruction, samples)
        if self.scorer is not None:
            if clip.name not in self._inputs:
                self._inputs[clip.name] = self.scorer.audio(clip.samples, SAMPLE_RATE)
            heard, untouched = self.scorer.audio(samples, SAMPLE_RATE), self._inputs[clip.name]
            asked = {"CLAP": instruction.caption}
            if instruction.verb == "remove":
                remains = with_remains(instruction, clip.stems).remains
                asked |= {"CLAP removed": instruction.stem or ""} | ({"CLAP remains": remains} if remains else {})
            for name, text in asked.items():
                out[name] = self._cosine(heard, text)
                out[f"{name} change"] = _gain(out[name], self._cosine(untouched, text))
        return out, heard

    def _cosine(self, recording: npt.NDArray[np.float32], text: str) -> float:
        assert self.scorer is not None
        if text not in self._texts:
            self._texts[text] = self.scorer.text([text])[0]
        return clap_score(recording, self._texts[text])


def _gain(now: float | None, before: float) -> float:
    """Return now - before; exactly 0 where they are equal, infinities too."""
    assert now is not None
    return 0.0 if now == before else now - before
