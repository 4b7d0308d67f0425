"""Codes of songs on disk: which mixtures a song is encoded as, at which levels, and how they are kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....errors import UserError
from ..workspace import Workspace, replace

Codes = npt.NDArray[np.uint8]

LEVELS = 8.0
"""Decibels that a stem's level moves in the second pass over the songs, and in any later one."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The codes of songs, uint8 [songs, 15, K, T], and which of the fifteen mixtures were encoded [songs, 15]."""

    codes: Codes
    known: npt.NDArray[np.bool_]


def heard(masks: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return which of the four stems mixtures hold, 0 or 1 [..., 4]: the bits of their masks (1 to 15)."""
    return np.asarray(masks, np.int64)[..., None] >> np.arange(4) & 1


def mixtures(seed: int, everything: bool) -> list[int]:
    """Return the mixtures (masks 1 to 15) that a song is encoded as: all, or what upstream's edits need and two more.

    Four stems, four mixes without one, the mix, and two of the six pairs.
    """
    if everything:
        return list(range(1, 16))
    pairs = [mask for mask in range(1, 16) if mask.bit_count() == 2]
    two = random.Random(f"{seed} pairs").sample(pairs, 2)
    return sorted([mask for mask in range(1, 16) if mask.bit_count() != 2] + two)


def seed_of(name: str, number: int, row: int) -> int:
    """Return the seed of one song in one pass."""
    return random.Random(f"{name} {number} {row}").getrandbits(48)


def relevel(stems: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """Move each stem's level by up to `LEVELS` dB, and the whole under full scale."""
    rng = random.Random(seed)
    gains = np.array([10 ** (rng.uniform(-LEVELS, LEVELS) / 20) for _ in stems], np.float32)
    moved = stems * gains[:, None]
    return moved * np.float32(min(1.0, 0.95 / max(1e-6, float(np.abs(moved.sum(axis=0)).max()))))


def load_codes(work: Workspace, name: str) -> Sequence[Encoded]:
    """Read the encoded chunks of a set. Raises UserError if there are none."""
    paths = sorted(work.codes.glob(f"{name}-*.npz"))
    if not paths:
        raise UserError(f"no codes of the set {name!r} in {work.codes}; run the stage 'encode' first")
    found = []
    for path in paths:
        with np.load(path) as arrays:
            found.append(Encoded(arrays["codes"], arrays["known"]))
    return found


def check_codec(path: Path, digest: str) -> None:
    """Raise UserError if codes were not made by the codec of that digest."""
    with np.load(path) as arrays:
        if str(arrays["codec"]) != digest:
            raise UserError(f"{path} holds codes of another codec; remove {path.parent} and encode again")


def save_codes(path: Path, encoded: Encoded, digest: str) -> None:
    """Write some songs' codes and the digest of the codec that made them, whole or not at all."""

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, codes=encoded.codes, known=encoded.known, codec=np.array(digest))

    replace(path, write)
