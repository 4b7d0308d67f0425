"""What a style is: tempo, meter, grooves and the figures that its parts may play."""

from __future__ import annotations

from dataclasses import dataclass

STEMS = ("drums", "bass", "piano", "guitar")
"""The four stems of the original model's training data, in the order of every array here."""


@dataclass(frozen=True, slots=True)
class Style:
    """A style; every figure is one bar of `bar` sixteenths.

    Kick, snare and hat figures: `X` accented, `x` plain, `,` soft, and in hats `o` open. Bass: `r` root, `f` fifth,
    `d` fifth below, `o` octave, `t` third, `s` seventh, `a` approach to the next root, `w` a step of the scale.
    Piano: `C` chord, `c` soft chord, `L` low root, `B` low root and chord, `H` the chord an octave up, digits the
    chord's tones from the bottom, `m` melody. Guitar: `D` and `U` strokes down and up, `K` a short muted stroke, `P`
    power chord, `B` low string, digits strings of the chord's shape, `m` melody.
    """

    name: str
    tempo: tuple[float, float]
    kick: tuple[str, ...]
    snare: tuple[str, ...]
    hat: tuple[str, ...]
    bass: tuple[str, ...]
    piano: tuple[str, ...]
    guitar: tuple[str, ...]
    bar: int = 16
    swing: tuple[float, float] = (0.5, 0.5)
    swing_grid: int = 4
    modes: tuple[str, ...] = ("major", "minor", "dorian", "mixolydian")

    def figures(self) -> tuple[str, ...]:
        """Return every figure of the style, to check their lengths."""
        return self.kick + self.snare + self.hat + self.bass + self.piano + self.guitar


@dataclass(frozen=True, slots=True)
class Presets:
    """The General MIDI programs (from 0) that each stem may play; for drums the numbers are kits."""

    drums: tuple[int, ...]
    bass: tuple[int, ...]
    piano: tuple[int, ...]
    guitar: tuple[int, ...]
