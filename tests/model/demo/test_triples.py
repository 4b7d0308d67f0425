"""Laws of the triples: inputs, sentences and targets belong together, as upstream draws them; no torch."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.demo.training.codec.codes import LEVELS, Encoded, check_codec, load_codes, mixtures, relevel, save_codes
from model.demo.training.edits.triples import canonical_edits, draw, possible
from model.demo.training.workspace import Workspace
from model.errors import UserError


def labeled(songs: int, known: np.ndarray | None = None) -> Encoded:
    """Codes that tell where they come from: the first frame is the mask, the second the song."""
    codes = np.zeros((songs, 15, 4, 3), np.uint8)
    codes[..., 0] = np.arange(1, 16)[None, :, None]
    codes[..., 1] = np.arange(songs)[:, None, None]
    return Encoded(codes, np.ones((songs, 15), bool) if known is None else known)


@given(seed=st.integers(0, 10**9), texts=st.integers(1, 6))
def test_targets_are_what_the_edit_makes_of_their_input(seed: int, texts: int) -> None:
    rng = random.Random(seed)
    known = np.zeros((5, 15), bool)
    for row in range(5):
        known[row, [mask - 1 for mask in mixtures(seed + row, False)]] = True
    batch = draw([labeled(5, known)], 3, texts, rng)
    assert batch.inputs.shape[0] == 3 and len(batch.targets) == len(batch.texts) == 3 * texts
    for row, (target, edit) in enumerate(zip(batch.targets, batch.edits)):
        source = batch.inputs[row // texts]
        assert source[0, 1] == target[0, 1], "of one song"
        before, after, bit = int(source[0, 0]), int(target[0, 0]), 1 << edit.stem
        assert after == edit.result and known[source[0, 1], after - 1]
        assert after == {"only": bit, "no": before & ~bit, "add": before | bit}[edit.action] != before
        assert bool(before & bit) == (edit.action != "add")


def test_all_twelve_edits_are_possible_and_drawn() -> None:
    assert {(e.action, e.stem) for e in possible(np.ones(15, bool), 15)} == {
        (action, stem) for action in ("only", "no") for stem in range(4)
    }
    rng, found = random.Random(0), set()
    for _ in range(60):
        found |= {(e.action, e.stem) for e in draw([labeled(3)], 2, 4, rng).edits}
    assert len(found) == 12


def test_wrong_sentences_name_another_stem() -> None:
    for action, (batch, wrong) in canonical_edits([labeled(4)], 4).items():
        assert len(batch.texts) == 16 and all(a != b for a, b in zip(batch.texts, wrong)), action


@given(st.integers(0, 2**48))
def test_songs_are_encoded_as_stems_mixes_without_one_and_two_pairs(seed: int) -> None:
    chosen = mixtures(seed, False)
    assert len(chosen) == 11 and {1, 2, 4, 8, 7, 11, 13, 14, 15} <= set(chosen)
    assert mixtures(seed, True) == list(range(1, 16))


@given(st.integers(0, 2**48))
def test_levels_move_within_their_bounds_and_never_clip(seed: int) -> None:
    stems = np.full((4, 10), 0.3, np.float32)
    moved = relevel(stems, seed)
    assert np.abs(moved.sum(axis=0)).max() <= 0.951
    ratio = 20 * np.log10(moved[:, 0].max() / moved[:, 0].min())
    assert ratio <= 2 * LEVELS + 1e-3 and np.array_equal(moved, relevel(stems, seed))


def test_codes_come_back_and_absent_ones_are_told(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    with pytest.raises(UserError, match="run the stage 'encode' first"):
        load_codes(work, "train")
    encoded = labeled(2)
    path = work.codes / "train-0-0000-0000.npz"
    save_codes(path, encoded, "one codec")
    (found,) = load_codes(work, "train")
    assert np.array_equal(found.codes, encoded.codes) and found.known.all()
    check_codec(path, "one codec")
    with pytest.raises(UserError, match="codes of another codec"):
        check_codec(path, "another")
