"""The pianist: chords in inversions, broken chords, a left hand and melodies, from the middle of the keyboard up."""

from __future__ import annotations

import random

from .plan import Plan, figure_of_bars, loudness
from .theory import Chord, Note, at_or_above, scale_pitch

LOWEST_ROOT = 36


def write_piano(rng: random.Random, plan: Plan) -> list[Note]:
    """Write the piano part, in sixteenths."""
    figures = figure_of_bars(rng, plan.style.piano, plan.bars)
    bottom = rng.choice((55, 57, 60, 60, 62, 65, 67))
    spread, level = rng.uniform(2, 8), rng.uniform(76, 100)
    pedal = rng.choice((0.95, 0.95, 1.3, 0.6))
    left_hand = rng.random() < 0.2
    step = rng.randrange(4, 10)
    notes: list[Note] = []
    for bar, hits in enumerate(figures):
        if left_hand:
            root = at_or_above(plan.chord(bar).root, LOWEST_ROOT + 4)
            notes.append(Note(bar * plan.style.bar, plan.style.bar * 0.95, root, loudness(rng, 72, spread)))
        for hit in hits:
            chord = plan.chord(bar, hit.start)
            voicing = _voicing(chord, bottom)
            if hit.symbol == "m":
                step = max(0, min(12, step + rng.choice((-2, -1, -1, 0, 1, 1, 2, 3, -3))))
                pitches = [scale_pitch(step, plan.scale, plan.key, bottom)]
            else:
                root = at_or_above(chord.root, LOWEST_ROOT)
                pitches = {
                    "C": voicing,
                    "c": voicing,
                    "H": [pitch + 12 for pitch in voicing],
                    "L": [root],
                    "B": [root, *voicing],
                }.get(hit.symbol) or [_broken(voicing, int(hit.symbol))]
            velocity = round(level) - (20 if hit.symbol == "c" else 0) + (5 if hit.start == 0 else 0)
            for pitch in pitches:
                at = bar * plan.style.bar + hit.start
                notes.append(Note(at, max(0.5, hit.length * pedal), pitch, loudness(rng, velocity, spread)))
    return notes


def _voicing(chord: Chord, bottom: int) -> list[int]:
    """Place each tone of the chord at or above `bottom`: the inversion that lies nearest to the hand."""
    return sorted(at_or_above(tone, bottom) for tone in chord.classes)


def _broken(voicing: list[int], index: int) -> int:
    octave, tone = divmod(index, len(voicing))
    return voicing[tone] + 12 * octave
