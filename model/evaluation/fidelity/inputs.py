"""What the models are run over: clips as codes, instructions, and the tokens that are forced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ... import audio
from ...config import LMConfig
from ...errors import UserError
from ...instructions import without_preamble
from ...pipeline import InstructMusicGen


@dataclass(frozen=True)
class Material:
    """One clip with one instruction. condition and target: int32 [1,K,T] without the special frame."""

    name: str
    text: str
    condition: mx.array
    target: mx.array | None
    """The tokens to force; None: what the first variant generates itself."""

    @property
    def title(self) -> str:
        """The clip and the instruction, without upstream's preamble."""
        return f"{self.name}, {without_preamble(self.text)}"

    @property
    def frames(self) -> int:
        """The number of frames T; 50 are a second."""
        return int(self.condition.shape[2])


def from_clips(model: InstructMusicGen, files: Sequence[Path], texts: Sequence[str], frames: int) -> list[Material]:
    """Encode clips, cut to `frames`, or repeated until they are that long; pair each with each text."""
    out = []
    for file in files:
        codes = np.array(model.encode(mx.array(audio.load(file).samples)))
        codes = np.resize(codes.transpose(2, 0, 1), (frames, 1, codes.shape[1])).transpose(1, 2, 0)
        out += [Material(file.stem, text, mx.array(codes), None) for text in texts]
    return out


def seeded(lm: LMConfig, texts: Sequence[str], frames: int, seed: int) -> list[Material]:
    """Return uniform random codes int32 [1,K,frames] from `seed`, paired with each text.

    They need no audio and do not resemble music.
    """
    rng = np.random.default_rng(seed)
    codes = mx.array(rng.integers(0, lm.card, (1, lm.codebooks, frames)).astype(np.int32))
    return [Material("random codes", text, codes, None) for text in texts]


def from_file(path: Path, lm: LMConfig, texts: Sequence[str], frames: int) -> list[Material]:
    """Read integer codes [B,K,T] from a .npz or .safetensors: `condition`, perhaps `target`, cut to `frames`.

    Each row goes with each text. Raises UserError if it cannot be read or does not hold codes of this model.
    """
    try:
        loaded = mx.load(str(path))
        arrays = loaded if isinstance(loaded, dict) else {}
    except (OSError, RuntimeError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e}); give a .npz or .safetensors file of codes") from e
    condition, target = arrays.get("condition"), arrays.get("target")
    if condition is None:
        have = ", ".join(arrays) or "none"
        raise UserError(
            f"{path}: has no array `condition` [B,{lm.codebooks},T], it has {have}; save the codes as `condition`"
        )
    for name, codes in (("condition", condition), ("target", target)):
        if codes is None:
            continue
        if codes.ndim != 3 or codes.shape[1] != lm.codebooks or codes.shape != condition.shape or not codes.size:
            raise UserError(
                f"{path}: {name} has shape {list(codes.shape)}; it must be [B,{lm.codebooks},T], as condition"
            )
        if not mx.issubdtype(codes.dtype, mx.integer) or int(codes.min()) < 0 or int(codes.max()) >= lm.card:
            raise UserError(f"{path}: {name} must hold integers from 0 to {lm.card - 1}")
    out = []
    for row in range(condition.shape[0]):
        part = [None if c is None else c[row : row + 1, :, :frames].astype(mx.int32) for c in (condition, target)]
        assert part[0] is not None
        out += [Material(f"{path.stem} {row}", text, part[0], part[1]) for text in texts]
    return out
