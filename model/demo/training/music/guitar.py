"""The guitarist: strokes over open-position shapes, power chords, picked strings, muted strokes and riffs.

Strokes spread over the strings, shapes keep a guitar's wide spacing (root, fifth, octave, third, fifth), and the
register lies below the piano's.
"""

from __future__ import annotations

import random

from .plan import Plan, figure_of_bars, loudness
from .theory import Chord, Note, at_or_above, scale_pitch

LOWEST = 40
"""The low E of a guitar."""

DRIVEN = (29, 30, 31)
"""Overdriven and distorted programs: thirds growl, so their strokes are power chords."""


def write_guitar(rng: random.Random, plan: Plan, program: int) -> list[Note]:
    """Write the guitar part, in sixteenths, for a General MIDI program (from 0)."""
    figures = figure_of_bars(rng, plan.style.guitar, plan.bars)
    bottom = rng.choice((LOWEST, LOWEST, 43, 45))
    spread, level = rng.uniform(2, 9), rng.uniform(80, 104)
    brush = rng.uniform(0.008, 0.025) / plan.sixteenth
    melody_bottom = rng.choice((52, 52, 55, 57))
    ring = rng.choice((0.95, 0.95, 0.7))
    step = rng.randrange(2, 8)
    notes: list[Note] = []
    for bar, hits in enumerate(figures):
        for hit in hits:
            shape = _shape(plan.chord(bar, hit.start), bottom, power=program in DRIVEN)
            at = float(bar * plan.style.bar + hit.start)
            velocity = round(level) + (5 if hit.start % 4 == 0 else -3)
            length = hit.length * ring
            if hit.symbol == "m":
                step = max(0, min(10, step + rng.choice((-2, -1, -1, 0, 1, 1, 2))))
                strings = [scale_pitch(step, plan.scale, plan.key, melody_bottom)]
            elif hit.symbol in "DU":
                strings = shape if hit.symbol == "D" else shape[:1:-1] or shape[::-1]
            elif hit.symbol == "K":
                strings, length = shape[1:], 0.7
            elif hit.symbol == "P":
                strings = shape[:3] if program in DRIVEN else [shape[0], shape[1], shape[0] + 12]
            elif hit.symbol == "B":
                strings = shape[:1]
            else:
                strings, length = [shape[min(int(hit.symbol), len(shape) - 1)]], length * 1.6
            velocity -= 10 if hit.symbol == "U" else 0
            for index, pitch in enumerate(strings):
                late = index * brush
                sounding = max(0.4, length - late)
                notes.append(Note(at + late, sounding, pitch, loudness(rng, velocity, spread)))
    return notes


def _shape(chord: Chord, bottom: int, power: bool) -> list[int]:
    root = at_or_above(chord.root, bottom)
    third, fifth = (chord.classes[1] - chord.root) % 12, (chord.classes[2] - chord.root) % 12
    if power:
        return [root, root + fifth, root + 12, root + 12 + fifth]
    seventh = [root + (chord.classes[3] - chord.root) % 12] if len(chord.classes) > 3 else [root + 12]
    return sorted({root, root + fifth, *seventh, root + 12 + third, root + 12 + fifth})
