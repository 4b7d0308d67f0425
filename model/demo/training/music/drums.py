"""The drummer: kick, snare and cymbals from the style's grids, ghost notes, fills, crashes and percussion."""

from __future__ import annotations

import random

from .plan import Plan, loudness
from .theory import Note

LEVELS = {"X": 116, "x": 98, ",": 48, "o": 92}
FILLS = ((50, 48, 45, 41), (38, 38, 45, 41), (38, 50, 38, 45), (48, 48, 41, 41), (38, 38, 38, 38))
PERCUSSION = (54, 56, 69, 70, 82, 62, 63, 75)
CLOSED, OPEN = 42, 46


def write_drums(rng: random.Random, plan: Plan) -> list[Note]:
    """Return the drum part's notes, whose times are in sixteenths."""
    style, length = plan.style, plan.style.bar
    spread = rng.uniform(2, 9)
    kick, snare, hat = rng.choice(style.kick), rng.choice(style.snare), rng.choice(style.hat)
    kick_key = rng.choice((36, 36, 35))
    snare_key = rng.choice((38, 38, 40, 40, 37, 39))
    cymbal = rng.choice((CLOSED, CLOSED, CLOSED, 51, 51, 44, 53))
    percussion = rng.choice(PERCUSSION) if rng.random() < 0.25 else None
    shaken = rng.choice((2, 4, 1))
    fill_every = rng.choice((0, 0, 2, 4, 4))
    ghosts = rng.choice((0.0, 0.0, 0.06, 0.12))
    crash_chance = rng.choice((0.05, 0.2, 0.5))
    notes: list[Note] = []

    def strike(at: float, key: int, velocity: int) -> None:
        notes.append(Note(at, 0.9, key, loudness(rng, velocity, spread)))

    for bar in range(plan.bars):
        start = bar * length
        fill = fill_every > 0 and bar % fill_every == fill_every - 1 and rng.random() < 0.7
        fill_from = length - rng.choice((2, 4, 4, 8)) if fill else length
        for step in range(length):
            at = start + step
            if kick[step] in LEVELS and (step < fill_from or step % 4 == 0):
                strike(at, kick_key, LEVELS[kick[step]])
            if hat[step] in LEVELS:
                key = OPEN if hat[step] == "o" else cymbal
                strike(at, key, LEVELS[hat[step]] - (16 if step % 4 else 4))
            if step < fill_from:
                if snare[step] in LEVELS:
                    strike(at, snare_key, LEVELS[snare[step]])
                elif step % 2 and rng.random() < ghosts:
                    strike(at, snare_key, 40)
        if fill:
            toms, dense = rng.choice(FILLS), rng.choice((1, 1, 2))
            for index, step in enumerate(range(fill_from, length, dense)):
                strike(start + step, toms[index * len(toms) // max(1, (length - fill_from) // dense) % len(toms)], 104)
        if rng.random() < crash_chance and (bar == 0 or (fill_every and bar % fill_every == 0)):
            strike(start, rng.choice((49, 57, 55)), 104)
        if percussion is not None:
            for step in range(0, length, shaken):
                strike(start + step, percussion, 84 if step % 4 == 0 else 66)
    return notes
