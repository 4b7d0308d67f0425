"""Scores of an edit that need nothing but the model and the clip; higher is better."""

from __future__ import annotations

import numpy as np

from ..decoding.likelihood import LogProbabilities
from ..instructions import Verb
from ..spectra import Array, log_mel

WHAT = {
    "gap": "how much more probable the sentence makes the tokens: mean log p with it minus log p without, in nats",
    "first gap": "the same of the first codebook alone",
    "probability": "mean log p of the tokens with the sentence, in nats",
    "guided": "mean log p of the tokens under guided logits, in nats",
    "fit": "how little the edit has that the input lacks (Only, No), or lacks that the input has (Add), in dB below 0",
    "clap": "cosine of the sound's CLAP embedding with the instrument's name; negative for No",
}
"""Every score by its name."""
RANKING: str | None = "fit"
"""What candidates are ranked by unless another score is asked for: of the scores here, the only one that beat chance on
the demo (docs/candidates.md). None: by none, in the order of their seeds."""


def scores(likelihood: LogProbabilities, edit: Array, clip: Array, verb: Verb | None) -> dict[str, float]:
    """Score an edit [n] of a clip [n], both 32 kHz mono. Scores that cannot be told are left out.

    The guidance gap is what classifier-free guidance pushes on (MusicGen, arXiv 2306.05284, section 2.3): tokens that
    the sentence explains have a large one.
    """
    found = {
        "gap": float(likelihood.gap.mean()),
        "first gap": float(likelihood.gap[0]),
        "probability": float(likelihood.conditional.mean()),
        "guided": float(likelihood.guided.mean()),
        "fit": fit(edit, clip, verb) if verb else float("nan"),
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}


def fit(edit: Array, clip: Array, verb: Verb) -> float:
    """Return minus the mean decibels, over mel bands and frames, that an edit [n] has too much or too little.

    What Only and No leave was in the clip, so that nothing may be louder than it; what Add keeps is all of it. A shift
    of level common to all bands counts too.
    """
    if len(edit) != len(clip):
        raise ValueError(f"an edit of {len(edit)} samples and a clip of {len(clip)} must be equally long")
    if len(clip) < 2048:  # less than one spectrum
        return float("nan")
    change = log_mel(edit) - log_mel(clip)
    return -float(np.maximum(0, -change if verb == "Add" else change).mean())
