"""Judge a bundle by the public interface: every stem's Only, No and Add on validation songs, right and wrong."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from model.pipeline import InstructMusicGen

from ....spectra import Array, log_mel
from ..edits.sentences import ACTIONS, canonical
from ..music.library import load_songs
from ..music.style import STEMS
from ..workspace import Workspace, replace
from .presence import Presence, fit, threshold
from .score import CANDIDATES, Truth, mask_of, score
from .summary import summarize

EDITS = tuple((action, stem) for action in ACTIONS for stem in range(4))
FITTED = 120
"""Training songs that presence is fitted on, as up to six mixtures each."""


def judge(
    work: Workspace, bundle: Path, name: str, songs: int, *, backend: str = "auto", notes: bool = True, **sampling: Any
) -> dict[str, Any]:
    """Return the summary of a bundle's edits of the first `songs` songs of the set `name`, and its rows under "rows".

    `sampling` goes to `edit_codes` (greedy, guidance, top_k, temperature, seed). Raises UserError where songs or the
    bundle are missing.
    """
    model = InstructMusicGen.from_pretrained(bundle, backend)
    stems = stems_of(work, name, songs)
    presence = fit_presence(work, model)
    truths = [_truth(model, song) for song in stems]
    rows = []
    for index, truth in enumerate(truths):
        other = truths[(index + 1) % len(truths)] if len(truths) > 1 else None
        edits, wrong = _edits(model, truth, index, sampling)
        for (action, stem), edit, lost in zip(EDITS, edits, wrong):
            _, target = mask_of(action, stem)
            row: dict[str, Any] = {"song": index, "action": action, "stem": STEMS[stem]}
            row |= score(edit, action, stem, truth, other.coded[target] if other else None, notes)
            row |= _heard(presence, action, stem, edit, lost, truth)
            row["right beats wrong"] = float(_right_wins(row, action, stem, truth, lost))
            rows.append(row)
    _mark_present(rows)
    return (
        {"bundle": bundle.name, "set": name, "songs": len(stems), "sampling": sampling}
        | summarize(rows)
        | {"rows": rows}
    )


def stems_of(work: Workspace, name: str, songs: int) -> npt.NDArray[np.float32]:
    """Return the stems of a set's first songs, float32 [songs, 4, n]. Raises UserError if there are none."""
    found = np.concatenate([np.asarray(chunk[:songs]) for chunk in load_songs(work, name)])
    return found[:songs].astype(np.float32)


def round_trip(model: InstructMusicGen, audio: npt.NDArray[np.float32]) -> tuple[mx.array, Array]:
    """Encode and decode audio [B,n]: its codes, and what the codec makes of it [B,n]."""
    codes = model.encode(mx.array(audio))
    return codes, np.array(model.decode(codes))[:, : audio.shape[1]]


def _truth(model: InstructMusicGen, stems: Array) -> Truth:
    truth = Truth(stems, {})
    _, coded = round_trip(model, np.stack([truth.mixture(mask) for mask in CANDIDATES]))
    truth.coded.update(zip(CANDIDATES, coded))
    return truth


def _edits(model: InstructMusicGen, truth: Truth, index: int, sampling: dict[str, Any]) -> tuple[Array, Array]:
    """Return every edit, and the same inputs edited as another stem's sentence asks."""
    inputs = np.stack([truth.mixture(mask_of(action, stem)[0]) for action, stem in EDITS])
    codes = model.encode(mx.array(np.concatenate([inputs, inputs])))
    texts = [canonical(action, stem) for action, stem in EDITS]
    texts += [canonical(action, (stem + 1 + index % 3) % 4) for action, stem in EDITS]
    edited = np.array(model.decode(model.edit_codes(codes, texts, **sampling)))[:, : inputs.shape[1]]
    return edited[: len(EDITS)], edited[len(EDITS) :]


def _heard(presence: Presence, action: str, stem: int, edit: Array, lost: Array, truth: Truth) -> dict[str, float]:
    """Return the log-odds that a stem was added to the input: by the edit, a wrong edit, the truth, and by nothing."""
    if action != "add":
        return {}
    source, target = mask_of(action, stem)
    before = truth.spectra[source]
    after = {"edit": log_mel(edit), "wrong": log_mel(lost), "truth": truth.spectra[target], "input": before}
    odds = {f"odds {kind}": float(presence(before, spectrum)[stem]) for kind, spectrum in after.items()}
    others = [mask_of(action, other)[0] for other in range(4) if other != stem]
    odds["odds others"] = max(float(presence(truth.spectra[mask], truth.spectra[15])[stem]) for mask in others)
    return odds


def _right_wins(row: dict[str, Any], action: str, stem: int, truth: Truth, lost: Array) -> bool:
    if action == "add":
        return bool(row["odds edit"] > row["odds wrong"])
    return bool(score(lost, action, stem, truth, None, notes=False)["edit"] > row["edit"])


def _mark_present(rows: list[dict[str, Any]]) -> None:
    """Set what passes each stem's threshold, the 10th percentile of these songs' true additions.

    `present` for the edit; `input fails` for nothing added; `others fail` if no addition of another stem passes.
    """
    for stem in STEMS:
        adds = [row for row in rows if row["action"] == "add" and row["stem"] == stem]
        if adds:
            least = threshold(np.array([row["odds truth"] for row in adds]))
            for row in adds:
                row["present"] = float(row["odds edit"] >= least)
                row["input fails"], row["others fail"] = (float(row[f"odds {k}"] < least) for k in ("input", "others"))


def fit_presence(work: Workspace, model: InstructMusicGen) -> Presence:
    """Fit presence on training songs after the codec's round trip; kept in the work folder for the same codec."""
    codec = hashlib.sha256(model.bundle.codec_path.read_bytes()).hexdigest()[:12]
    path = work.folder("judge") / f"added-{codec}.npz"
    if path.is_file():
        with np.load(path) as saved:
            return Presence(saved["spread"], saved["weights"], saved["bias"])
    songs: list[dict[int, Array]] = []
    for stems in stems_of(work, "train", FITTED):
        rng = random.Random(len(songs))
        masks = sorted({*rng.sample(range(1, 16), 3), 15, *(15 ^ 1 << stem for stem in rng.sample(range(4), 2))})
        _, coded = round_trip(model, np.stack([Truth(stems, {}).mixture(mask) for mask in masks]))
        songs.append({mask: log_mel(sound) for mask, sound in zip(masks, coded)})
    presence = fit(songs)

    def save(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, spread=presence.spread, weights=presence.weights, bias=presence.bias)

    replace(path, save)
    return presence


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the summary as lines of text."""
    yield f"{result['bundle']} on {result['songs']} songs of {result['set']!r}"
    for name, value in result["summary"].items():
        shown = ", ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else str(value)
        yield f"  {name}: {shown}"
