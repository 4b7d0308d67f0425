"""The delay pattern: codebook k runs k positions late, so that each position predicts one token of every codebook.

MusicGen (arXiv 2306.05284), section 2.2. For T frames there are T + K positions; position j of codebook k holds frame
j - 1 - k, and the special token where there is no such frame (position 0 throughout).
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import numpy.typing as npt


def with_special(codes: mx.array, special: int) -> mx.array:
    """Append the special frame to codes int32 [B,K,T]: the adapter's input ends with it."""
    return mx.concatenate([codes, mx.full((*codes.shape[:2], 1), special, dtype=codes.dtype)], axis=2)


def positions(frames: int, codebooks: int = 4) -> int:
    """Return the positions of the delayed sequence for `frames` frames."""
    return frames + codebooks


def frame_index(frames: int, codebooks: int = 4) -> npt.NDArray[np.int64]:
    """Return int [K,T+K]: the frame at each position of each codebook, or -1 outside the pattern."""
    frame = np.arange(positions(frames, codebooks))[None] - 1 - np.arange(codebooks)[:, None]
    return np.where((frame >= 0) & (frame < frames), frame, -1)


def apply_delay(codes: mx.array, frames: int, special: int) -> tuple[mx.array, npt.NDArray[np.bool_]]:
    """Lay out known codes int32 [B,K,P], P <= frames, in the delay pattern of `frames` frames.

    Gives the sequence int32 [B,K,T+K], with the special token outside the pattern and 0 where a frame from P on is
    still to be generated, and a bool [K,T+K] that is true where the sequence is already known.
    """
    batch, codebooks, given = codes.shape
    frame = frame_index(frames, codebooks)
    known = frame < given
    inside = (frame >= 0) & known
    if given:
        index = mx.array(np.where(inside, frame, 0).astype(np.int32))[None]
        picked = mx.take_along_axis(codes, mx.broadcast_to(index, (batch, *frame.shape)), axis=2)
    else:
        picked = mx.zeros((batch, *frame.shape), dtype=mx.int32)
    outside = mx.array(np.where(frame < 0, special, 0).astype(np.int32))
    return mx.where(mx.array(inside), picked, outside).astype(mx.int32), known


def undo_delay(sequence: mx.array, frames: int) -> mx.array:
    """Return codes int32 [B,K,T] from a delayed sequence [B,K,T+K].

    Frame t of codebook k is at position t + k + 1.
    """
    return mx.stack([sequence[:, k, k + 1 : k + 1 + frames] for k in range(sequence.shape[1])], axis=1)
