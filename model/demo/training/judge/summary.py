"""Bring the scores of edits together: means a kind of edit, shares, and intervals over songs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]

MIN_SONGS = 5
"""Songs below which an interval would say nothing."""

RESAMPLES = 4000


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """Return `edits` (means by action and stem) and `summary` (what the demo is held against)."""
    edits: dict[str, Any] = {}
    for action, stem in dict.fromkeys((row["action"], row["stem"]) for row in rows):
        chosen = [row for row in rows if row["action"] == action and row["stem"] == stem]
        keys = [key for key, value in chosen[0].items() if isinstance(value, float)]
        edits[f"{action} {stem}"] = {key: round(float(np.mean([row[key] for row in chosen])), 3) for key in keys}
    summary: dict[str, Any] = {
        "Only and No: true target nearest of nine": share(rows, "nearest", ("only", "no")),
        "Only: nearest of nine": share(rows, "nearest", ("only",)),
        "No: nearest of nine": share(rows, "nearest", ("no",)),
        "right instruction beats wrong": share(rows, "right beats wrong", ("only", "no", "add")),
        "Add: present": share(rows, "present", ("add",)),
        "Add: unedited input fails": share(rows, "input fails", ("add",)),
        "Add: additions of other stems fail": share(rows, "others fail", ("add",)),
    }
    for action in ("only", "no"):
        better = [{**row, "better": float(row["edit"] < row["untouched"])} for row in rows if row["action"] == action]
        summary[f"{action.title()}: nearer than the untouched input"] = share(better, "better", (action,))
    return {"summary": {name: value for name, value in summary.items() if value}, "edits": edits}


def share(rows: Sequence[Row], key: str, actions: Sequence[str]) -> dict[str, float]:
    """Return a mean in percent with its 95 % bootstrap interval over songs; empty where no row has the key."""
    chosen = [row for row in rows if row["action"] in actions and key in row]
    songs = sorted({row["song"] for row in chosen})
    if not songs:
        return {}
    means = [float(np.mean([row[key] for row in chosen if row["song"] == song])) for song in songs]
    result = {"percent": round(100 * float(np.mean(means)), 1)}
    if len(means) >= MIN_SONGS:
        draws = np.random.default_rng(0).integers(0, len(means), (RESAMPLES, len(means)))
        low, high = np.quantile(np.array(means)[draws].mean(axis=1), (0.025, 0.975))
        result |= {"low": round(100 * float(low), 1), "high": round(100 * float(high), 1)}
    return result
