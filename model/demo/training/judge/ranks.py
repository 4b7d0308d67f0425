"""Do candidates' scores tell good edits from bad ones? Rank 1 against the mean candidate, on songs with true stems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from model.candidates.clap import Clap, clap_of
from model.candidates.scores import scores
from model.decoding import steps
from model.decoding.likelihood import Likelihood
from model.decoding.sampling import Sampling
from model.instructions import meaning
from model.pipeline import InstructMusicGen

from ....spectra import RATE, Array, distance, log_mel
from ..edits.sentences import canonical
from ..music.style import STEMS
from ..workspace import Workspace
from .presence import Presence, threshold
from .run import EDITS, fit_presence, round_trip, stems_of
from .score import CANDIDATES, Truth, mask_of, nearest
from .summary import MIN_SONGS, RESAMPLES

SILENT = 1e-2
"""Peak below which a stem is not there: an edit that names it has no answer that could be reached."""

Floats = npt.NDArray[np.float64]


def judge_ranks(
    work: Workspace, bundle: Path, name: str, songs: int, count: int, *, backend: str = "auto", seed: int = 0,
    clap: Clap | None = None, guidance: float = 3.0, **sampling: Any,
) -> dict[str, Any]:  # fmt: skip
    """Make `count` candidates of every edit of the first songs of a set, and say what each score's rank 1 gains.

    A candidate reaches the target if, of the stems and mixtures, the true one is the nearest (Only, No), or if the
    stem is heard (Add). Raises UserError where songs or the bundle are missing.
    """
    model = InstructMusicGen.from_pretrained(bundle, backend)
    presence = fit_presence(work, model)
    plan = Sampling(**sampling), guidance
    rows: list[dict[str, Any]] = []
    for index, stems in enumerate(stems_of(work, name, songs)):
        rows += _song(model, index, stems, range(seed, seed + count), plan, presence, clap)
    _mark_added(rows)
    return {
        "bundle": bundle.name, "set": name, "songs": songs, "candidates": count, "sampling": sampling,
        "guidance": guidance, "seed": seed, "gains": gains(rows), "rows": rows,
    }  # fmt: skip


def _song(
    model: InstructMusicGen, index: int, stems: Array, seeds: Sequence[int], plan: tuple[Sampling, float],
    presence: Presence, clap: Clap | None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yield a row for each candidate of each edit of a song whose stems sound."""
    truth = Truth(stems, {})
    _, coded = round_trip(model, np.stack([truth.mixture(mask) for mask in CANDIDATES]))
    truth.coded.update(zip(CANDIDATES, coded))
    vocabulary = model.bundle.config.instructions
    for action, stem in EDITS:
        source, target = mask_of(action, stem)
        if np.abs(stems[stem]).max() < SILENT or np.abs(truth.mixture(15 ^ 1 << stem)).max() < SILENT:
            continue
        before, text = truth.mixture(source), canonical(action, stem)
        codes = mx.repeat(model.encode(mx.array(before)), len(seeds), axis=0)
        likelihood, windows = Likelihood(), model.plan(codes.shape[2])
        run = model.edit_steps(codes, [text] * len(seeds), windows, *plan, list(seeds), likelihood=likelihood)
        sounds = np.array(model.decode(steps.edited(run)))[:, : len(before)]
        verb = meaning(text, vocabulary)
        for row, sound in enumerate(sounds):
            spectrum = log_mel(sound)
            told = scores(likelihood[row], sound, before, verb[0] if verb else None)
            if clap is not None:
                told["clap"] = clap_of(clap, sound, RATE, text, vocabulary)
            found: dict[str, Any] = {"song": index, "action": action, "stem": STEMS[stem], "seed": seeds[row]}
            found |= {"scores": told, "distance": distance(spectrum, truth.spectra[target])}
            if action == "add":
                found["odds"] = float(presence(truth.spectra[source], spectrum)[stem])
                found["odds truth"] = float(presence(truth.spectra[source], truth.spectra[target])[stem])
            else:
                found["reached"] = float(nearest(spectrum, truth) == target)
            yield found


def _mark_added(rows: list[dict[str, Any]]) -> None:
    """Say of every candidate of Add whether its stem is heard as nine in ten of these songs' true additions are."""
    for stem in STEMS:
        adds = [row for row in rows if row["action"] == "add" and row["stem"] == stem]
        if adds:
            least = threshold(np.array([row["odds truth"] for row in adds]))
            for row in adds:
                row["reached"] = float(row["odds"] >= least)


def gains(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, for every score and for an oracle, what its rank 1 gains over the mean candidate.

    `reached`: percent of edits, of rank 1 and of the mean candidate, and their difference with its 95 % bootstrap
    interval over songs; `nearer`: by how many dB rank 1 is nearer to the target, likewise. Beside all edits, each
    action apart. `oracle` picks the best by the truth: no score can gain more.
    """
    names = sorted({name for row in rows for name in row["scores"]})
    out: dict[str, dict[str, Any]] = {}
    for action in ("all", "only", "no", "add"):
        chosen = [row for row in rows if action in ("all", row["action"])]
        groups: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
        for row in chosen:
            groups.setdefault((row["song"], row["action"], row["stem"]), []).append(row)
        if not groups:
            continue
        out[action] = {name: _gain(groups, name) for name in [*names, "oracle"]}
    return out


def _gain(groups: dict[tuple[int, str, str], list[dict[str, Any]]], name: str) -> dict[str, Any]:
    songs: dict[int, list[tuple[float, float, float]]] = {}
    for (song, *_), rows in groups.items():
        if name != "oracle" and not all(name in row["scores"] for row in rows):
            continue
        key = (lambda r: (r["reached"], -r["distance"])) if name == "oracle" else (lambda r: r["scores"][name])
        first = max(rows, key=key)
        mean = float(np.mean([row["reached"] for row in rows]))
        near = float(np.mean([row["distance"] for row in rows])) - first["distance"]
        songs.setdefault(song, []).append((first["reached"], mean, near))
    if not songs:
        return {}
    each = np.array([np.mean(found, axis=0) for found in songs.values()])
    return {
        "rank 1": round(100 * float(each[:, 0].mean()), 1),
        "mean candidate": round(100 * float(each[:, 1].mean()), 1),
        "reached": interval(100 * (each[:, 0] - each[:, 1])),
        "nearer": interval(each[:, 2]),
    }


def interval(differences: Floats) -> dict[str, float]:
    """Return the mean over songs with its 95 % bootstrap interval.

    `low` and `high` are left out below `MIN_SONGS` songs.
    """
    result = {"mean": round(float(differences.mean()), 2)}
    if len(differences) >= MIN_SONGS:
        draws = np.random.default_rng(0).integers(0, len(differences), (RESAMPLES, len(differences)))
        low, high = np.quantile(differences[draws].mean(axis=1), (0.025, 0.975))
        result |= {"low": round(float(low), 2), "high": round(float(high), 2)}
    return result


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the gains as lines of text, and which scores beat chance: those whose interval lies above 0."""
    head = f"{result['bundle']} on {result['songs']} songs of {result['set']!r}"
    yield f"{head}, {result['candidates']} candidates an edit"
    for action, found in result["gains"].items():
        yield f"{action}:"
        for name, gain in found.items():
            if gain:
                yield (
                    f"  {name:<12} rank 1 reaches {gain['rank 1']} %, the mean candidate {gain['mean candidate']} %: "
                    f"{_text(gain['reached'])} points; nearer by {_text(gain['nearer'])} dB"
                )
    able = [name for name, gain in result["gains"].get("all", {}).items() if gain and gain["reached"].get("low", 0) > 0]
    able = [name for name in able if name != "oracle"]
    yield f"beat chance: {', '.join(able) or 'none; candidates should not be ranked by any of these'}"


def _text(found: dict[str, float]) -> str:
    span = f" ({found['low']} to {found['high']})" if "low" in found else ""
    return f"{found['mean']:+}{span}"
