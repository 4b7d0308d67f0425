"""Scales, chords and the notation of rhythms that the composer's parts share."""

from __future__ import annotations

from dataclasses import dataclass

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}
"""Semitones above the key's tonic."""

PROGRESSIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "major": (
        (0, 4, 5, 3),
        (0, 3, 4, 3),
        (0, 5, 3, 4),
        (5, 3, 0, 4),
        (0, 0, 3, 4),
        (0, 2, 3, 4),
        (1, 4, 0, 5),
        (0, 3, 0, 4),
        (3, 4, 2, 5),
        (0, 1, 3, 0),
    ),
    "minor": (
        (0, 5, 2, 6),
        (0, 3, 5, 4),
        (0, 6, 5, 6),
        (0, 0, 3, 4),
        (0, 2, 6, 3),
        (5, 6, 0, 0),
        (0, 3, 6, 2),
        (0, 5, 3, 4),
    ),
    "dorian": ((0, 3, 0, 3), (0, 1, 3, 0), (0, 6, 3, 0), (0, 2, 3, 3)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 0), (0, 4, 6, 3), (0, 0, 6, 3)),
    "harmonic minor": ((0, 3, 4, 0), (0, 5, 1, 4), (0, 4, 0, 4)),
}
"""Roots of four chords, as degrees of the scale counted from 0."""


@dataclass(frozen=True, slots=True)
class Note:
    """One note: start and length in seconds (in sixteenths while a part is written), MIDI pitch and velocity."""

    start: float
    length: float
    pitch: int
    velocity: int


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord: pitch classes from the root up, and the scale it comes from."""

    classes: tuple[int, ...]
    degree: int

    @property
    def root(self) -> int:
        """Return the root's pitch class."""
        return self.classes[0]


@dataclass(frozen=True, slots=True)
class Hit:
    """One symbol of a figure: its start and length in sixteenths."""

    start: int
    length: int
    symbol: str


def chord_on(degree: int, scale: tuple[int, ...], key: int, thirds: int) -> Chord:
    """Build a chord of `thirds` stacked thirds on a degree of the scale; 2 makes a triad, 3 a seventh chord."""
    classes = tuple((key + scale[(degree + 2 * step) % 7]) % 12 for step in range(thirds + 1))
    return Chord(classes, degree)


def scale_pitch(step: int, scale: tuple[int, ...], key: int, bottom: int) -> int:
    """Return the MIDI pitch of a scale step counted from the first tonic at or above `bottom`."""
    tonic = bottom + (key - bottom) % 12
    return tonic + scale[step % 7] + 12 * (step // 7)


def at_or_above(pitch_class: int, bottom: int) -> int:
    """Return the lowest MIDI pitch of a pitch class that is at least `bottom`."""
    return bottom + (pitch_class - bottom) % 12


def read_figure(figure: str) -> list[Hit]:
    """Read a figure of one character a sixteenth: a symbol starts a note, `-` holds it, `.` is a rest."""
    hits: list[Hit] = []
    for position, symbol in enumerate(figure):
        if symbol == "-" and hits and hits[-1].start + hits[-1].length == position:
            last = hits[-1]
            hits[-1] = Hit(last.start, last.length + 1, last.symbol)
        elif symbol not in "-.":
            hits.append(Hit(position, 1, symbol))
    return hits


def swung(position: float, share: float, grid: int) -> float:
    """Move a position in sixteenths so that the first half of each `grid` sixteenths takes `share` of its time.

    A share of 0.5 is straight, 2/3 a triplet swing. `grid` is 4 where eighths swing and 2 where sixteenths do.
    """
    whole, rest = divmod(position, grid)
    half = grid / 2
    if rest <= half:
        return whole * grid + rest * 2 * share
    return whole * grid + grid * share + (rest - half) * 2 * (1 - share)
