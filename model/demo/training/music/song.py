"""Compose a song from a seed: the parts' notes in seconds, cut to the clip, with entries, rests and human timing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .bass import write_bass
from .drums import write_drums
from .guitar import write_guitar
from .piano import write_piano
from .plan import Plan, draw_plan
from .style import STEMS, Presets, Style
from .theory import Note, swung

SECONDS = 5.0
"""A song's length: the window of the demo's model."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stem's General MIDI program, its notes in seconds and its detuning in semitones."""

    program: int
    notes: tuple[Note, ...]
    detune: float


@dataclass(frozen=True, slots=True)
class Song:
    """A song: its seed, the name of its style, tempo, key and mode, and the four parts in the order of `STEMS`."""

    seed: int
    style: str
    tempo: float
    key: int
    mode: str
    parts: tuple[Part, ...]


def compose(seed: int, styles: Sequence[Style], presets: Presets, seconds: float = SECONDS) -> Song:
    """Compose the song of a seed. The same arguments give the same song on every machine."""
    rng = random.Random(f"{seed} song")
    offset_bars = rng.choice((0.0, 0.0, 0.0, 0.5, 1.0))
    plan = draw_plan(rng, styles, seconds * 1.0 + 8.0)
    offset = offset_bars * plan.style.bar * plan.sixteenth
    programs = [rng.choice(getattr(presets, stem)) for stem in STEMS]
    writers = (
        write_drums(rng, plan),
        write_bass(rng, plan),
        write_piano(rng, plan),
        write_guitar(rng, plan, programs[3]),
    )
    loose = rng.choice((0.0, 0.004, 0.008, 0.012))
    quiet = _silences(rng, plan, seconds)
    parts = []
    for stem, (program, notes) in enumerate(zip(programs, writers)):
        lag = rng.gauss(0.0, 0.006) if stem else 0.0
        detune = rng.uniform(-0.12, 0.12) if stem and rng.random() < 0.6 else 0.0
        timed = _timed(rng, plan, notes, offset, lag, loose, seconds)
        kept = tuple(n for n in timed if not any(start <= n.start < stop for start, stop in quiet[stem]))
        parts.append(Part(program, kept, detune))
    return Song(seed, plan.style.name, round(plan.tempo, 2), plan.key, plan.mode, tuple(parts))


def _timed(
    rng: random.Random, plan: Plan, notes: Sequence[Note], offset: float, lag: float, loose: float, seconds: float
) -> list[Note]:
    """Turn sixteenths into seconds: swing, the clip's start, the part's lag and each note's own looseness."""
    timed = []
    for note in notes:
        begin = swung(note.start, plan.swing, plan.style.swing_grid) * plan.sixteenth - offset
        end = swung(note.start + note.length, plan.swing, plan.style.swing_grid) * plan.sixteenth - offset
        begin += lag + rng.gauss(0.0, loose) if loose else lag
        if begin < -0.02 or begin > seconds - 0.05:
            continue
        begin = max(0.0, begin)
        timed.append(Note(begin, max(0.04, min(end, seconds) - begin), note.pitch, note.velocity))
    return timed


def _silences(rng: random.Random, plan: Plan, seconds: float) -> list[list[tuple[float, float]]]:
    """Draw when parts are silent: late entries, early ends, and rests of a bar or a half, in some songs only."""
    quiet: list[list[tuple[float, float]]] = [[] for _ in STEMS]
    bar = plan.style.bar * plan.sixteenth
    for stem in range(len(STEMS)):
        chance = rng.random()
        if chance < 0.06:
            quiet[stem].append((0.0, rng.uniform(0.2, 0.6) * seconds))
        elif chance < 0.09:
            quiet[stem].append((rng.uniform(0.5, 0.8) * seconds, seconds))
        elif chance < 0.16:
            start = rng.randrange(0, 4) * bar / 2
            quiet[stem].append((start, start + rng.choice((bar / 2, bar))))
    return quiet
