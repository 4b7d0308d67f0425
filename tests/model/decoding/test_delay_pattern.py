"""Laws of the delay pattern."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.decoding.delay_pattern import apply_delay, positions, undo_delay

SPECIAL = 99


@given(batch=st.integers(1, 3), books=st.integers(1, 6), frames=st.integers(1, 20), seed=st.integers(0, 99))
def test_undo_delay_inverts_apply_delay(batch: Any, books: Any, frames: Any, seed: Any) -> None:
    codes = mx.array(np.random.default_rng(seed).integers(0, SPECIAL, (batch, books, frames)), dtype=mx.int32)
    sequence, known = apply_delay(codes, frames, SPECIAL)
    assert sequence.shape == (batch, books, positions(frames, books))
    assert known.all()
    assert (np.asarray(undo_delay(sequence, frames)) == np.asarray(codes)).all()
    # What is left of the pattern is the special token.
    assert (np.asarray(sequence) == SPECIAL).sum() == batch * books * books


@given(frames=st.integers(2, 20), data=st.data())
def test_a_prompt_makes_known_what_it_covers(frames: Any, data: Any) -> None:
    given_frames = data.draw(st.integers(0, frames - 1))
    codes = mx.array(np.arange(4 * given_frames).reshape(1, 4, given_frames), dtype=mx.int32)
    sequence, known = apply_delay(codes, frames, SPECIAL)
    got = np.asarray(sequence)[0]
    for k in range(4):
        for j in range(frames + 4):
            frame = j - 1 - k
            if not 0 <= frame < frames:
                assert known[k, j]
                assert got[k, j] == SPECIAL
            elif frame < given_frames:
                assert known[k, j]
                assert got[k, j] == k * given_frames + frame
            else:
                assert not known[k, j]
    # Positions 0..P need no generation: the first chunk of a prompted window.
    assert known[:, : given_frames + 1].all()
    assert not known[0, given_frames + 1]
