"""Laws of the instructions, the tokenizer and the triples: no torch."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from model.demo.training.codec.codes import heard
from model.demo.training.edits.sentences import ACTIONS, FAMILIES, SUBJECTS, canonical, sentence, sentences
from model.demo.training.edits.tokenizer import EOS, UNKNOWN, Tokens, definition, longest, vocabulary


def test_upstreams_sentences_are_exact() -> None:
    assert canonical("only", 0) == "Music piece. Instruct: Only Drums."
    assert canonical("no", 3) == "Music piece. Instruct: No Guitar."
    assert canonical("add", 2) == "Music piece. Instruct: Add Piano."


def test_all_general_midi_families_are_subjects() -> None:
    named = {names[0] for names in FAMILIES} | {"piano", "guitar", "bass", "drums"}
    assert {
        "piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe",
        "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects",
    } <= named  # fmt: skip


@given(seed=st.integers(0, 10**9))
def test_sentences_are_words_of_the_vocabulary_and_differ_by_action_and_subject(seed: int) -> None:
    rng = random.Random(seed)
    action, subject = rng.choice(ACTIONS), rng.randrange(len(SUBJECTS))
    text = sentence(rng, action, subject)
    (row,) = Tokens()([text])
    pieces = definition()["model"]["vocab"]
    assert row[-1] == EOS and UNKNOWN not in row and max(row) < vocabulary()
    letters = [pieces[i][0] for i in row[:-1] if len(pieces[i][0]) == 1 and pieces[i][0].isalpha()]
    assert not letters, f"{text!r} is spelled with {letters}"


def test_case_does_not_matter_and_an_empty_text_is_the_end_alone() -> None:
    tokens = Tokens()
    assert tokens(["ONLY DRUMS."]) == tokens(["only drums."])
    assert tokens([""]) == [[EOS]]
    short, long = tokens(["no bass", "everything except the electric guitar"])
    assert len(short) == len(long) and short[-1] == 0


def test_the_tokenizer_file_reads_back(tmp_path: object) -> None:
    import json

    fast = Tokenizer.from_str(json.dumps(definition()))
    assert fast.encode("Only drums.").tokens == ["▁only", "▁drums", ".", "</s>"]


def test_a_mixture_holds_the_stems_whose_bits_its_mask_has() -> None:
    found = heard(range(1, 16))
    assert found.shape == (15, 4) and len(set(map(tuple, found.tolist()))) == 15
    assert np.array_equal(found @ (1 << np.arange(4)), np.arange(1, 16))
    assert np.array_equal(found[14], [1, 1, 1, 1]) and np.array_equal(found[0], [1, 0, 0, 0])


def test_the_longest_sentence_is_one_that_may_be_drawn_and_none_is_longer() -> None:
    rng = random.Random(0)
    drawn = [sentence(rng, rng.choice(ACTIONS), rng.randrange(len(SUBJECTS))) for _ in range(3000)]
    assert set(drawn) <= set(sentences())
    assert max(len(row) for row in Tokens()(sentences())) == longest() == len(Tokens()(["Only Drums."], longest())[0])
