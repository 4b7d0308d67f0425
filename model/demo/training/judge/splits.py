"""Does a mask over the original win over the edit? SI-SDR and what is left of the removed stems, with true stems.

The mask is linear: the removed stems are sent through it alone, so that their level before and after is known exactly.
A win needs a higher SI-SDR than the plain edit's and removed stems at least 10 dB lower; a mask that passes all has the
input's SI-SDR, which may be higher than the edit's, and lowers nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from model.evaluation.measures.si_sdr import si_sdr
from model.from_input.guides import of_powers
from model.from_input.mask import BANDS, HOP, SHARPNESS, Mask, powers
from model.from_input.split import masked
from model.instructions import Verb
from model.pipeline import InstructMusicGen

from ....spectra import RATE, Array
from ..edits.sentences import canonical
from ..music.style import STEMS
from ..workspace import Workspace
from .ranks import SILENT, interval
from .run import stems_of
from .score import Truth, mask_of

ALL = "all-pass"
"""The mask that passes everything: it must never win."""
LESS = 10.0
"""Decibels by which what should go must fall."""

Shape = tuple[float, float | None]
"""Sharpness and excess of a mask; None: the default of each verb."""


def judge_splits(
    work: Workspace, bundle: Path, name: str, songs: int, *, backend: str = "auto", seeds: int = 1, seed: int = 0,
    shapes: Sequence[Shape] = ((SHARPNESS, None),), **sampling: Any,
) -> dict[str, Any]:  # fmt: skip
    """Split every Only and No of the first songs of a set, with masks of each shape.

    The edits are those that `model.from_input.guides.guided` makes, each made once for a song. Raises UserError where
    songs or the bundle are missing.
    """
    model = InstructMusicGen.from_pretrained(bundle, backend)
    rows: list[dict[str, Any]] = []
    for index, stems in enumerate(stems_of(work, name, songs)):
        truth = Truth(stems, {})
        clip = truth.mixture(15)
        made = [_edits(model, clip, seed + n, sampling) for n in range(seeds)]
        coded = np.array(model.decode(model.encode(mx.array(_opposite_truths(truth)))))[:, : len(clip)]
        guides = {"mask": [_powers(each) for each in made], "true mask": [_powers(coded)]}
        for action in ("only", "no"):
            for stem in range(4):
                if min(np.abs(stems[stem]).max(), np.abs(truth.mixture(15 ^ 1 << stem)).max()) < SILENT:
                    continue
                verb: Verb = "Only" if action == "only" else "No"
                order = [stem, 4 + stem, *(other for other in range(4) if other != stem)]
                masks = {
                    f"{kind}, sharpness {sharpness:g}, excess {'default' if excess is None else excess}": of_powers(
                        verb, [[each[k] for k in order] for each in groups], sharpness, excess
                    )
                    for sharpness, excess in shapes
                    for kind, groups in guides.items()
                }
                masks[ALL] = Mask(np.ones((BANDS + 1, len(clip) // HOP + 1), np.float32))
                edit = made[0][stem if action == "only" else 4 + stem]
                row: dict[str, Any] = {"song": index, "action": action, "stem": STEMS[stem]}
                rows.append(row | _row(truth, mask_of(action, stem)[1], edit, masks))
    return {
        "bundle": bundle.name, "set": name, "songs": songs, "sampling": sampling, "seed": seed, "seeds": seeds,
        "summary": summary(rows), "rows": rows,
    }  # fmt: skip


def _edits(model: InstructMusicGen, clip: Array, seed: int, sampling: dict[str, Any]) -> Array:
    """Return each stem's Only, then each stem's No: [8, n]."""
    texts = [canonical(action, stem) for action in ("only", "no") for stem in range(4)]
    codes = mx.repeat(model.encode(mx.array(clip)), len(texts), axis=0)
    edited = model.edit_codes(codes, texts, seed=seed, pad_texts=False, **sampling)
    return np.array(model.decode(edited))[:, : len(clip)]


def _powers(sounds: Array) -> list[Array]:
    return [powers(sound) for sound in sounds]


def _opposite_truths(truth: Truth) -> Array:
    """Return each stem alone, then the mixture without each: [8, n]."""
    return np.stack([truth.mixture(1 << k) for k in range(4)] + [truth.mixture(15 ^ 1 << k) for k in range(4)])


def _row(truth: Truth, target: int, edit: Array, masks: dict[str, Mask]) -> dict[str, Any]:
    clip, wanted, gone = (truth.mixture(mask) for mask in (15, target, 15 ^ target))
    row: dict[str, Any] = {"fall": {}, "kept": {}}
    row["si-sdr"] = {"edit": si_sdr(edit, wanted), "input": si_sdr(clip, wanted)}
    for kind, mask in masks.items():
        row["si-sdr"][kind] = si_sdr(_masked(clip, mask), wanted)
        row["fall"][kind] = _decibels(gone) - _decibels(_masked(gone, mask))
        row["kept"][kind] = _decibels(_masked(wanted, mask)) - _decibels(wanted)
    return row


def _masked(samples: Array, mask: Mask) -> npt.NDArray[np.float64]:
    return np.concatenate([piece for _, piece in masked(samples[:, None], RATE, mask)])[:, 0]


def _decibels(samples: npt.ArrayLike) -> float:
    return float(10 * np.log10(np.square(np.asarray(samples, np.float64)).sum() + 1e-20))


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, for Only and No: mean SI-SDRs, and what each mask gains and removes, with 95 % intervals over songs.

    `wins`: percent of edits that win; `win`: whether the mean does, by both rules.
    """
    out: dict[str, dict[str, Any]] = {}
    for action in ("only", "no"):
        chosen = [row for row in rows if row["action"] == action]
        if not chosen:
            continue
        found: dict[str, Any] = {k: round(float(_songs(chosen, "si-sdr", k).mean()), 2) for k in ("edit", "input")}
        for kind in chosen[0]["fall"]:
            level, fall = _songs(chosen, "si-sdr", kind), _songs(chosen, "fall", kind)
            gain = level - _songs(chosen, "si-sdr", "edit")
            wins = [float(r["si-sdr"][kind] > r["si-sdr"]["edit"] and r["fall"][kind] >= LESS) for r in chosen]
            found[kind] = {
                "si-sdr": round(float(level.mean()), 2), "over the edit": interval(gain),
                "over the input": interval(level - _songs(chosen, "si-sdr", "input")), "fall": interval(fall),
                "kept": interval(_songs(chosen, "kept", kind)), "wins": round(100 * float(np.mean(wins)), 1),
                "win": bool(gain.mean() > 0 and fall.mean() >= LESS),
            }  # fmt: skip
        out[action] = found
    return out


def _songs(rows: Sequence[dict[str, Any]], key: str, kind: str) -> npt.NDArray[np.float64]:
    """Return a mean for each song."""
    songs = sorted({row["song"] for row in rows})
    return np.array([np.mean([row[key][kind] for row in rows if row["song"] == song]) for song in songs])


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the summary as lines of text."""
    head = f"{result['bundle']} on {result['songs']} songs of {result['set']!r}"
    yield f"{head}, {result['seeds']} seed(s); dB, over songs"
    for action, found in result["summary"].items():
        yield f"{action}: SI-SDR of the edit {found['edit']}, of the input {found['input']}"
        for kind, part in found.items():
            if isinstance(part, dict):
                above = f"over the edit {_text(part['over the edit'])}, over the input {_text(part['over the input'])}"
                falls = f"what should go falls by {_text(part['fall'])}, what stays changes by {_text(part['kept'])}"
                won = f"wins {part['wins']} % of edits: {'a win' if part['win'] else 'no win'}"
                yield f"  {kind}: SI-SDR {part['si-sdr']}, {above}; {falls}; {won}"


def _text(found: dict[str, float]) -> str:
    return f"{found['mean']}" + (f" ({found['low']} to {found['high']})" if "low" in found else "")
