"""The bass player: one line of roots, fifths, octaves, walks and approach notes."""

from __future__ import annotations

import random

from .plan import Plan, figure_of_bars, loudness
from .theory import Note, at_or_above

LOWEST = 28
"""The low E of a bass."""


def write_bass(rng: random.Random, plan: Plan) -> list[Note]:
    """Write the bass part, in sixteenths."""
    figures = figure_of_bars(rng, plan.style.bass, plan.bars)
    bottom = rng.choice((LOWEST, LOWEST, 31, 33))
    spread, level = rng.uniform(2, 9), rng.uniform(88, 112)
    tightness = rng.choice((0.95, 0.95, 0.8, 0.55))
    notes: list[Note] = []
    for bar, hits in enumerate(figures):
        for hit in hits:
            chord = plan.chord(bar, hit.start)
            root = at_or_above(chord.root, bottom)
            tones = chord.classes
            pitch = {
                "r": root,
                "f": root + (tones[2] - tones[0]) % 12,
                "d": root + (tones[2] - tones[0]) % 12 - 12,
                "o": root + 12,
                "t": root + (tones[1] - tones[0]) % 12,
                "s": root + ((tones[3] - tones[0]) % 12 if len(tones) > 3 else 10),
                "a": at_or_above(plan.chord(bar + 1).root, bottom) + rng.choice((-1, 1, 2, -2)),
                "w": root + rng.choice(plan.scale[1:6]),
            }[hit.symbol]
            if pitch < LOWEST:
                pitch += 12
            velocity = loudness(rng, round(level) + (6 if hit.start == 0 else 0), spread)
            notes.append(Note(bar * plan.style.bar + hit.start, hit.length * tightness, pitch, velocity))
    return notes
