"""Estimates by arithmetic of a decode step's time on Apple's chips, as ranges; most of their parts are guessed.

The bytes that must be read are known. Guessed are the share of the published bandwidth that is reached, the cost of a
launch that waits for the one before, how long the GPU waits for the host in a step, and what registers and prologues
cost.
"""

from __future__ import annotations

from typing import NamedTuple

from ..output.tables import Table
from .apple_chips import CHIPS

OUR_LAUNCHES, MLX_LAUNCHES, OTHER_LAUNCHES = 8, (22, 26), 40
"""Launches of a layer, ours and stock MLX's (with gelu compiled, and without), and of the rest of a step."""


class Guess(NamedTuple):
    """A chip, the share of its bandwidth that is reached, and costs: a launch in µs, the rest in ms a step."""

    chip: str
    share: float
    launch: float
    idle: float
    kernels: tuple[float, float]


class Estimate(NamedTuple):
    """Milliseconds per step on a chip, as ranges.

    as_is: all idle time, and the guessed cost of registers and prologues. redesigned: without that cost, with at most
    half of the idle time. stock: MLX's own operations, all idle time, with and without compiled gelu.
    """

    chip: str
    least: float
    as_is: tuple[float, float]
    redesigned: tuple[float, float]
    stock: tuple[float, float]


GUESSES = (
    Guess("M1", 0.88, 5.5, 0.9, (2, 5)),
    Guess("M2 Max", 0.80, 4.5, 0.9, (1, 3)),
    Guess("M4 Max", 0.80, 3.0, 0.7, (0.8, 2)),
    Guess("M5", 0.85, 3.0, 0.7, (0.8, 2)),
)
"""Guesses for each chip.

Launches: published costs of dependent dispatches on other chips (2.4 to 5.2 µs), spread by judgment.
"""


def estimate(guess: Guess, read: float, layers: int) -> Estimate:
    """Return the estimate of a step that reads so many bytes in so many layers; kernels' costs grow with its layers."""
    bandwidth = max(chip.bandwidth for chip in CHIPS if chip.name.split(" (")[0] == guess.chip)
    least = read / bandwidth / 1e6
    streamed, part = least / guess.share, layers / 48
    ours = streamed + (OUR_LAUNCHES * layers + OTHER_LAUNCHES) * guess.launch / 1e3
    low, high = (each * part for each in guess.kernels)
    stock = [streamed + (n * layers + OTHER_LAUNCHES) * guess.launch / 1e3 + guess.idle for n in MLX_LAUNCHES]
    return Estimate(
        guess.chip,
        least,
        (ours + guess.idle + low, ours + guess.idle + high),
        (ours, ours + guess.idle / 2),
        (stock[0], stock[1]),
    )


def estimates(read: float, layers: int) -> list[Estimate]:
    """Return an estimate for each chip that has a guess."""
    return [estimate(guess, read, layers) for guess in GUESSES]


def estimates_table(found: list[Estimate], what: str) -> Table:
    """Return a row for each chip, and the guesses."""
    rows = [
        [e.chip, f"{e.least:.3g}", *(f"{a:.3g} to {b:.3g}" for a, b in (e.as_is, e.redesigned, e.stock))] for e in found
    ]
    notes = ["ESTIMATES: no time was measured on any Apple GPU. Known: the bytes. Guessed, by chip:"]
    notes += [
        f"  {g.chip}: {100 * g.share:.0f} % of peak bandwidth, {g.launch:g} us a launch, {g.idle:g} ms in which "
        f"the GPU waits for the host (redesigned: half at most), {g.kernels[0]:g} to {g.kernels[1]:g} ms for registers "
        "and prologues (redesigned: none)"
        for g in GUESSES
    ]
    notes.append(
        f"Launches a layer: {OUR_LAUNCHES} ours, {MLX_LAUNCHES[0]} to {MLX_LAUNCHES[1]} stock MLX's; "
        f"{OTHER_LAUNCHES} beside the layers."
    )
    headers = ["chip", "bytes alone", "as is", "redesigned", "stock MLX"]
    return Table(f"what a step may take, ms: {what}", headers, rows, notes)
