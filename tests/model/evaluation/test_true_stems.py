"""`bench quality` against true stems: the true answer wins every measure, the untouched input loses."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from model.demo.training.music.library import SETS
from model.demo.training.music.style import STEMS
from model.evaluation.measures import notes
from model.evaluation.quality.instructions import of
from model.evaluation.quality.true_stems import TrueStems
from tests.model.demo.conftest import sketch

SENTENCES = ["Music piece. Instruct: Only Bass.", "Music piece. Instruct: Remove Drums."]


@pytest.fixture(scope="module")
def clip() -> TrueStems:
    return TrueStems(dict(zip(STEMS, sketch(SETS["own"].song(5)))), lambda sound: sound)


@pytest.mark.slow
def test_the_true_answer_has_its_notes_onsets_and_is_nearest(clip: TrueStems) -> None:
    every = np.sum(list(clip.stems.values()), axis=0)
    only, remove = of(SENTENCES)
    for asked, answer in ((only, clip.stems["bass"]), (remove, every - clip.stems["drums"])):
        right, lazy = clip.score(asked, answer), clip.score(asked, every)
        assert right["nearest"] == 1 and lazy["nearest"] == 0
        assert right["onset F"] == 1
        if importlib.util.find_spec("onnxruntime"):
            assert right["notes F1"] == 1 and (lazy["notes F1"] or 0) < 1


def test_an_unknown_stem_or_a_recording_too_short_is_not_scored(clip: TrueStems) -> None:
    assert clip.score(of(["Music piece. Instruct: Only Harp."])[0], clip.stems["bass"]) == {}
    assert clip.score(of(SENTENCES)[0], clip.stems["bass"][:1000]) == {}


def test_without_onnxruntime_notes_are_left_out_and_the_reason_is_told(
    clip: TrueStems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install onnxruntime" in notes.missing()
    assert "notes F1" not in clip.score(of(SENTENCES)[0], clip.stems["bass"])
