"""Everyday sentences become trained ones if all of them is understood; nothing is guessed, and what is not is said."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import instruments
from model.bundle.bundle import demo_path, open_bundle
from model.bundle.codec_weights import codec_config
from model.bundle.config_json import render
from model.convert.convert import convert
from model.errors import UserError
from model.instructions import (
    LONGEST,
    UPSTREAM,
    VERBS,
    Asked,
    Vocabulary,
    asked,
    chosen,
    outcome,
    read,
    sentence,
    trained,
)

from .conftest import GOLDEN

SAID = """
Only Drums: just the drums | drums only | Only Drums. | keep only the drums | isolate the drum kit | extract drums |
  solo the drums | nothing but drums | I only want to hear the drums | remove everything but the drums | mute all
  instruments except the drums | the drums alone, please | let me hear only the percussion | can you leave just the
  drums? | play only the drum track | drums and nothing else | I'd like to hear just the drums
No Drums: remove the drums | no drums | Remove drums! | without drums please | take out the drums | take the drums
  out | get rid of the drums from this song | mute the percussion | drums off | turn the drum machine off | drumless
  | make it drumless | I don't want drums | I don’t want any drums | do not play the drums | keep everything but the
  drums | everything except the drums | all but the drums | the song with no drums | the same track without the
  drums | REMOVE THE DRUMS | with the drums removed | only remove the drums | cut out the drum part | no more drums
Only Bass: just the bass | only the bass guitar | bassline only | keep the upright bass
No Bass: remove the bass guitar | no bass | cut the double bass | leave out the bass line | Take away the electric
  bass.
Add Piano: add a piano | add piano | please add an e-piano | put a piano in | could you add some keys to the song? |
  bring in the electric piano | with added piano | piano added | add the keyboards | accompany it with a grand piano
No Guitar: take out the guitar | remove all the guitars | remove the electric guitar | no acoustic guitars | lose
  the gtr
"""


def said() -> list[tuple[str, str]]:
    paragraphs = re.split(r"\n(?! )", SAID.strip())
    pairs = [" ".join(p.split()).split(": ", 1) for p in paragraphs]
    return [(text, meant) for meant, texts in pairs for text in texts.split(" | ")]


@pytest.mark.parametrize(("text", "meant"), said())
def test_everyday_sentences_become_trained_ones(text: str, meant: str) -> None:
    assert asked(text) == Asked(f"Music piece. Instruct: {meant}.")
    assert trained(text) == f"Music piece. Instruct: {meant}."


UNCLEAR = """
drums | a piano | I want a piano | give me drums | play the piano | make the drums louder | more bass | less guitar
| don't remove the drums | not the drums | not only drums | no need for drums | add no drums | never add drums |
don't add a piano | without removing the drums | drop the bass | drop the drums | leave the drums | guitar solo |
leave the drums alone | pull out the guitar | add a soft piano | add a piano solo | mute everything else | cut |
remove the drums removed | make it sad | transpose to D | remove the reverb | no didgeridoo | add | only | remove |
piano piano | slow down the drums | turn up the bass | who plays the drums? | .. | ♪
"""


@pytest.mark.parametrize("text", " ".join(UNCLEAR.split()).split(" | "))
def test_what_is_unclear_goes_in_as_it_is_with_one_line(text: str) -> None:
    found = asked(text)
    assert found.text == text and "\n" not in found.note
    assert text in found.note and "Drums, Bass, Piano and Guitar" in found.note


@pytest.mark.parametrize(("text", "reason"), [
    ("only drums and bass", "more than one instrument"), ("remove the bass and the drums", "more than one instrument"),
    ("add piano, guitar", "more than one instrument"), ("replace the piano with a guitar", "more than one instrument"),
    ("no drums, only bass", "more than one instrument"), ("drum and bass", "more than one instrument"),
    ("remove the bass drum", "a part of Drums"), ("mute the snare", "a part of Drums"), ("no hi-hats", "part of Drums"),
    ("the drums", "does not say what to do"), ("bass guitar", "does not say what to do"),
])  # fmt: skip
def test_the_line_says_why(text: str, reason: str) -> None:
    assert asked(text).text == text and reason in asked(text).note


VERBATIM = (
    "Music piece. Instruct: No Drums.", "Music piece. Instruct: Remove Drums.", "music piece. instruct: only drums.",
    "Music piece. Instruct: Only vocals.", "Music piece. Instruct: Make it loud.", "Music piece.", " Music piece. x",
)  # fmt: skip


@pytest.mark.parametrize("text", VERBATIM)
def test_a_text_with_the_preamble_goes_in_as_it_is(text: str) -> None:
    assert asked(text).text == text and bool(asked(text).note) == (text != VERBATIM[0])


def test_remove_with_the_preamble_is_told_with_the_trained_sentence() -> None:
    note = asked("Music piece. Instruct: Remove Drums.").note
    assert "not trained on" in note and '"Music piece. Instruct: No Drums."' in note and "\n" not in note


def test_another_instrument_is_told() -> None:
    assert asked("remove the vocals") == Asked(
        "Music piece. Instruct: No Vocals.",
        "the model was not trained on Vocals, only on Drums, Bass, Piano and Guitar",
    )
    assert "not trained on Vocals" in asked("Music piece. Instruct: Only vocals.").note


@given(
    name=st.sampled_from(UPSTREAM.instruments),
    verb=st.sampled_from(VERBS),
    case=st.sampled_from((str, str.lower, str.upper)),
    end=st.sampled_from(("", ".", "!", " please", ", thanks")),
    article=st.sampled_from(("", "the ", "any ", "some ")),
)
def test_trained_verbs_in_any_dress(name: str, verb: str, case: Callable[[str], str], end: str, article: str) -> None:
    said = case(f"{verb} {article}{name}{end}")
    assert trained(said) == f"Music piece. Instruct: {verb} {name}."


WORDS = "only no add remove keep everything but the drums bass guitar piano and without not don't please take out off"


@given(text=st.text(max_size=60) | st.lists(st.sampled_from(WORDS.split()), max_size=7).map(" ".join))
def test_any_text_is_answered_and_stays_what_it_became(text: str) -> None:
    found = asked(text)
    assert found.text == text or found.text in UPSTREAM.sentences() or "not trained on" in found.note
    assert asked(found.text).text == found.text
    if found.text != text:
        assert not any(word in text.lower().split() for word in ("not", "and"))


def test_a_text_of_any_length_is_answered_at_once() -> None:
    for text in ("remove " * 20_000, "x" * 100_000, "no " + "the " * 10_000 + "drums", "(" * 5000):
        assert asked(text).text == text and len(asked(text).note) < 400
    assert read("no " + "the " * (LONGEST // 4 - 10) + "drums") == ("No", "Drums")


def test_a_bundles_own_instruments_come_first_and_keep_their_spelling() -> None:
    own = Vocabulary(("drums", "Electric Guitar", "Strings", "Snare"))
    assert asked("remove the drum kit", own) == Asked("Music piece. Instruct: No drums.")
    assert asked("only the electric guitars", own) == Asked("Music piece. Instruct: Only Electric Guitar.")
    assert asked("add strings", own) == Asked("Music piece. Instruct: Add Strings.")
    assert asked("no snare", own) == Asked("Music piece. Instruct: No Snare.")
    assert (
        asked("no piano", own).note
        == "the model was not trained on Piano, only on drums, Electric Guitar, Strings and Snare"
    )


def test_a_bundle_trained_on_everyday_sentences_is_given_them_as_they_are() -> None:
    own = Vocabulary(everyday=True)
    assert asked("take the drums out", own) == Asked("take the drums out")
    assert asked("Music piece. Instruct: No Drums.", own) == Asked("Music piece. Instruct: No Drums.")
    assert "not trained on Vocals" in asked("no vocals", own).note
    assert "matches none" in asked("make it sad", own).note
    assert chosen("No", "percussion", own) == Asked("Music piece. Instruct: No Drums.")


def test_shortcuts_take_any_instrument() -> None:
    assert chosen("Only", "drums") == Asked("Music piece. Instruct: Only Drums.")
    assert chosen("Add", " bass guitar ") == Asked("Music piece. Instruct: Add Bass.")
    assert chosen("No", "didgeridoo").text == "Music piece. Instruct: No Didgeridoo."
    assert "not trained on Didgeridoo" in chosen("No", "didgeridoo").note


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("Music piece. Instruct: Only Drums.", "only drums"),
        ("take out the bass", "the input without bass"),
        ("Music piece. Instruct: Add Piano.", "the input and piano"),
        ("make it sadder", ""),
    ],
)
def test_what_to_listen_for_follows_from_the_sentence(text: str, heard: str) -> None:
    assert outcome(text) == heard


def test_every_pair_of_verb_and_instrument_is_a_trained_sentence() -> None:
    assert set(UPSTREAM.sentences()) == {sentence(v, n) for v, n in itertools.product(VERBS, UPSTREAM.instruments)}
    assert all(asked(text) == Asked(text) for text in UPSTREAM.sentences())


def bundle_with(folder: Path, **entries: object) -> Path:
    shutil.copytree(demo_path(), folder)
    raw = json.loads((folder / "config.json").read_text()) | entries
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def test_config_json_tells_what_was_trained(tmp_path: Path) -> None:
    stated = {"instruments": ["Strings", "Oboe"], "everyday": True}
    bundle = open_bundle(bundle_with(tmp_path / "b", instructions=stated))
    assert bundle.config.instructions == Vocabulary(("Strings", "Oboe"), True)
    assert render(bundle.config, codec_config(bundle.codec_path))["instructions"] == stated
    assert open_bundle(bundle_with(tmp_path / "c", instructions={"everyday": True})).config.instructions.everyday
    plain = open_bundle(bundle_with(tmp_path / "d", instructions=None)).config.instructions
    assert plain == UPSTREAM and plain.instruments == ("Drums", "Bass", "Piano", "Guitar")


@pytest.mark.parametrize(("stated", "fragment"), [
    ([], "instructions is"), ({"instruments": "Drums"}, "list of names"), ({"instruments": []}, "name 1 to 64"),
    ({"instruments": ["Drums", 3]}, "list of names"), ({"instruments": ["Drums", "drums"]}, "twice"),
    ({"instruments": ["x" * 41]}, "1 to 40 characters"), ({"instruments": [" "]}, "1 to 40 characters"),
    ({"instruments": ["a\x1b[2J"]}, "1 to 40 characters"), ({"instruments": ["Drums. Only Bass"]}, "one instrument"),
    ({"instruments": [f"n{i}" for i in range(65)]}, "65 instruments"), ({"everyday": 1}, "true or false"),
])  # fmt: skip
def test_a_wrong_entry_is_one_line(tmp_path: Path, stated: object, fragment: str) -> None:
    with pytest.raises(UserError, match=fragment) as caught:
        open_bundle(bundle_with(tmp_path / "b", instructions=stated))
    assert "config.json" in str(caught.value)


def test_convert_writes_what_it_is_told(tmp_path: Path) -> None:
    source = {"adapter": GOLDEN / "upstream.ckpt", "base": GOLDEN / "base", "t5": GOLDEN / "t5", "bits": 32}
    told = Vocabulary(("Drums", "Strings"), everyday=True)
    path = convert(**source, out=tmp_path / "told", instructions=told)
    assert open_bundle(path).config.instructions == told
    path = convert(**source, out=tmp_path / "untold")
    assert "instructions" not in json.loads((path / "config.json").read_text())


@pytest.mark.parametrize("text", [
    "Music piece. Instruct: Only\n Drums.", " Music piece.  Instruct: Only Drums. ",
    "Music\u00a0piece. Instruct: Only Drums.",
])  # fmt: skip
def test_spaces_and_lines_are_no_other_sentence(text: str) -> None:
    """A note that shows the same words twice would contradict itself."""
    assert asked(text) == ("Music piece. Instruct: Only Drums.", "")


@pytest.mark.parametrize("letter", ["ﷺ", "a ", "please ", "&"])
def test_the_work_on_a_sentence_is_bounded_after_it_is_normalized(letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One character can become eighteen."""
    seen: list[int] = []
    plain = instruments.plain

    def noted(text: str) -> str:
        seen.append(len(text))
        return plain(text)

    monkeypatch.setattr(instruments, "plain", noted)
    text = (letter * 300)[:300]
    assert asked(text).text == text
    assert max(seen) <= 300
