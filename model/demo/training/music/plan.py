"""The plan of one song: what all four parts have to agree on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .style import Style
from .theory import PROGRESSIONS, SCALES, Chord, Hit, chord_on, read_figure


@dataclass(frozen=True, slots=True)
class Plan:
    """A song's style, tempo (quarter notes a minute), key, scale, swing and the chord of every half bar."""

    style: Style
    tempo: float
    key: int
    mode: str
    swing: float
    bars: int
    chords: tuple[tuple[Chord, Chord], ...]

    @property
    def sixteenth(self) -> float:
        """Return the seconds that a sixteenth lasts."""
        return 15.0 / self.tempo

    @property
    def scale(self) -> tuple[int, ...]:
        """Return the mode's steps in semitones."""
        return SCALES[self.mode]

    def chord(self, bar: int, step: int = 0) -> Chord:
        """Return the chord that sounds at a step (a sixteenth) of a bar; past the end the song starts again."""
        return self.chords[bar % len(self.chords)][step >= self.style.bar / 2]


def draw_plan(rng: random.Random, styles: Sequence[Style], seconds: float) -> Plan:
    """Draw the plan of a song that lasts at least `seconds` and two bars more."""
    style = rng.choice(styles)
    tempo = rng.uniform(*style.tempo)
    mode = rng.choice(style.modes)
    key = rng.randrange(12)
    bars = int(seconds / (style.bar * 15.0 / tempo)) + 3
    progression = rng.choice(PROGRESSIONS[mode])
    turn = rng.randrange(4)
    thirds = rng.choice((2, 2, 2, 3)) if mode in ("major", "minor") else rng.choice((2, 3))
    pace = rng.choice((0.5, 1, 1, 1, 2))
    chords = []
    for bar in range(bars):
        halves = []
        for half in (0, 1):
            index = int((2 * bar + half) / (2 * pace)) + turn
            halves.append(chord_on(progression[index % 4], SCALES[mode], key, thirds))
        chords.append((halves[0], halves[1]))
    return Plan(style, tempo, key, mode, rng.uniform(*style.swing), bars, tuple(chords))


def vary(rng: random.Random, figure: str, drop: float) -> list[Hit]:
    """Read a figure and drop each hit but the first with probability `drop`; the hit before may last in its place."""
    hits: list[Hit] = []
    for hit in read_figure(figure):
        if hits and rng.random() < drop:
            if rng.random() < 0.5 and hits[-1].start + hits[-1].length == hit.start:
                hits[-1] = Hit(hits[-1].start, hits[-1].length + hit.length, hits[-1].symbol)
            continue
        hits.append(hit)
    return hits


def figure_of_bars(rng: random.Random, figures: Sequence[str], bars: int) -> list[list[Hit]]:
    """Choose the figure of every bar: one, two in turn, or one with small variations."""
    first, second = rng.choice(figures), rng.choice(figures)
    drop = rng.choice((0.0, 0.0, 0.1, 0.2))
    pattern = rng.choice(("same", "same", "turns", "fourth"))
    result = []
    main = vary(rng, first, drop)
    for bar in range(bars):
        other = (pattern == "turns" and bar % 2 == 1) or (pattern == "fourth" and bar % 4 == 3)
        result.append(vary(rng, second, drop) if other else main)
    return result


def loudness(rng: random.Random, middle: int, spread: float) -> int:
    """Draw a MIDI velocity."""
    return max(18, min(127, round(rng.gauss(middle, spread))))
