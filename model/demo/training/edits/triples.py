"""Draw upstream's triples from encoded songs: input codes, an instruction, target codes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..codec.codes import Encoded
from .sentences import canonical, sentence

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of a mixture: the action, the stem it names and the mixture (mask) that results."""

    action: str
    stem: int
    result: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs [P, K, T], targets [P*R, K, T] and the sentences of the targets with what they ask for."""

    inputs: Ints
    targets: Ints
    texts: tuple[str, ...]
    edits: tuple[Edit, ...]


SIZES = {size: [mask for mask in range(1, 16) if mask.bit_count() == size] for size in range(1, 5)}


def possible(known: npt.NDArray[np.bool_], source: int) -> list[Edit]:
    """Return every edit of a mixture whose result is encoded and not empty."""
    edits = []
    for stem in range(4):
        bit = 1 << stem
        if source & bit:
            rest = source ^ bit
            if rest:
                edits.append(Edit("only", stem, bit))
                if known[rest - 1]:
                    edits.append(Edit("no", stem, rest))
        elif known[(source | bit) - 1]:
            edits.append(Edit("add", stem, source | bit))
    return edits


def draw(songs: Sequence[Encoded], prefixes: int, texts: int, rng: random.Random) -> Batch:
    """Draw a batch: `prefixes` inputs of `texts` edits each."""
    inputs: list[npt.NDArray[np.uint8]] = []
    targets: list[npt.NDArray[np.uint8]] = []
    sentences: list[str] = []
    edits: list[Edit] = []
    while len(inputs) < prefixes:
        chunk = songs[rng.randrange(len(songs))]
        row = rng.randrange(len(chunk.codes))
        known = chunk.known[row]
        size = rng.choices((4, 3, 2, 1), (0.36, 0.36, 0.16, 0.12))[0]
        sources = [mask for mask in SIZES[size] if known[mask - 1]]
        if not sources:
            continue
        source = rng.choice(sources)
        chosen = _choose(possible(known, source), size, texts, rng)
        if not chosen:
            continue
        inputs.append(chunk.codes[row, source - 1])
        for edit in chosen:
            targets.append(chunk.codes[row, edit.result - 1])
            sentences.append(sentence(rng, edit.action, edit.stem))
            edits.append(edit)
    arrays = [np.stack(part).astype(np.int64) for part in (inputs, targets)]
    return Batch(arrays[0], arrays[1], tuple(sentences), tuple(edits))


def _choose(edits: list[Edit], size: int, count: int, rng: random.Random) -> list[Edit]:
    """Choose edits of one input: at most half of them add something; some come twice where there are too few."""
    if not edits:
        return []
    rng.shuffle(edits)
    adds = [edit for edit in edits if edit.action == "add"]
    others = [edit for edit in edits if edit.action != "add"]
    chosen = (adds[: max(1, count // 2)] if size <= 3 else []) + others
    chosen = (chosen + adds)[:count]
    while len(chosen) < count:
        chosen.append(rng.choice(edits))
    return chosen


def canonical_edits(songs: Sequence[Encoded], count: int) -> dict[str, tuple[Batch, tuple[str, ...]]]:
    """Return, by action, every stem's edit of the first songs, and sentences that ask the same of another stem."""
    codes = np.concatenate([chunk.codes for chunk in songs])[:count]
    result = {}
    for action in ("only", "no", "add"):
        inputs, targets, texts, wrong, edits = [], [], [], [], []
        for row, song in enumerate(codes):
            for stem in range(4):
                bit = 1 << stem
                source, target = {"only": (15, bit), "no": (15, 15 ^ bit), "add": (15 ^ bit, 15)}[action]
                inputs.append(song[source - 1])
                targets.append(song[target - 1])
                texts.append(canonical(action, stem))
                wrong.append(canonical(action, (stem + 1 + row % 3) % 4))
                edits.append(Edit(action, stem, target))
        arrays = [np.stack(part).astype(np.int64) for part in (inputs, targets)]
        result[action] = Batch(arrays[0], arrays[1], tuple(texts), tuple(edits)), tuple(wrong)
    return result
