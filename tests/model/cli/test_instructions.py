"""`edit -i` and its shortcuts: what is given to the model is printed, and what it was not trained on is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import GOLDEN, TEXT, Run


@pytest.fixture
def edit(tmp_path: Path, bundle: Path, clip: Path) -> tuple[str | Path, ...]:
    return "edit", clip, "-o", tmp_path / "o.wav", "--model", bundle, "--backend", "reference", "--max-steps", "3"


ASKED = (("-i", "remove the drums"), ("-i", "No Drums."), ("--no", "drums"), ("--no", "Percussion"),
         ("-i", "Music piece. Instruct: No Drums."))  # fmt: skip


@pytest.mark.parametrize("asked", ASKED)
def test_the_sentence_that_goes_in_is_printed_and_is_what_the_model_gets(
    edit: tuple[str, ...], run: Run, asked: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from model import InstructMusicGen

    given: set[str] = set()
    conditions = InstructMusicGen.conditions
    monkeypatch.setattr(InstructMusicGen, "conditions", lambda m, texts: (given.update(texts), conditions(m, texts))[1])
    done = run(*edit, *asked)
    assert done.code == 0 and done.err.startswith("instruction: Music piece. Instruct: No Drums.\n"), done
    assert given == {"Music piece. Instruct: No Drums."} and "trained" not in done.err


@pytest.mark.parametrize(
    ("asked", "sentence"), [(("--only", "bass"), "Only Bass."), (("--add", "e-piano"), "Add Piano.")]
)
def test_shortcuts(edit: tuple[str, ...], run: Run, asked: tuple[str, str], sentence: str) -> None:
    assert run(*edit, *asked).err.startswith(f"instruction: Music piece. Instruct: {sentence}\n")


@pytest.mark.parametrize(("asked", "shown", "note"), [
    (("-i", "make it louder"), "make it louder", "note: \"make it louder\" matches none of the sentences"),
    (("-i", "Music piece. Instruct: Remove Drums."), "Music piece. Instruct: Remove Drums.", "Instruct: No Drums."),
    (("-i", TEXT), TEXT, "note: the model was not trained on Vocals"),
    (("--add", "didgeridoo"), "Music piece. Instruct: Add Didgeridoo.", "note: the model was not trained on Did"),
])  # fmt: skip
def test_what_was_not_trained_is_told_in_one_line(
    edit: tuple[str, ...], run: Run, asked: tuple[str, str], shown: str, note: str
) -> None:
    done = run(*edit, *asked)
    assert done.code == 0 and f"instruction: {shown}\n" in done.err
    assert [note in line for line in done.err.splitlines() if " trained" in line] == [True]
    assert run(*edit, *asked, "--quiet") == (0, "", "")


@pytest.mark.parametrize(("asked", "fragment"), [
    (("--only", "drums", "--no", "bass"), "not allowed with"), (("-i", "x", "--add", "bass"), "not allowed with"),
    (("--only", ""), "--only: '' is not an instrument"), (("--no", " "), "--no: '' is not an instrument"),
    (("--add", "x" * 41), "is not an instrument's name"), (("--no", "a\nb"), "is not an instrument's name"),
    (("--only", "drums and bass"), "must be one instrument's name"),
    (("--only", "drums, bass"), "must be one instrument's name"),
    (("--no",), "--no: expected one argument"),
])  # fmt: skip
def test_wrong_shortcuts(edit: tuple[str, ...], run: Run, asked: tuple[str, ...], fragment: str) -> None:
    run(*edit, *asked).fails(2, fragment)


def test_a_bundle_says_what_it_was_trained_on(tmp_path: Path, clip: Path, run: Run) -> None:
    out = tmp_path / "bundle"
    source = ("--adapter", GOLDEN / "upstream.ckpt", "--base", GOLDEN / "base", "--t5", GOLDEN / "t5", "--bits", "32")
    assert run("convert", *source, "--out", out, "--instruments", "Drums, Vocals", "--everyday").code == 0
    assert json.loads((out / "config.json").read_text())["instructions"] == {
        "instruments": ["Drums", "Vocals"], "everyday": True,
    }  # fmt: skip
    assert "Drums, Vocals; everyday sentences too" in run("info", out).out
    edit = ("edit", clip, "-o", tmp_path / "o.wav", "--model", out, "--backend", "reference", "--max-steps", "3", "-i")
    done = run(*edit, "take the singing out")
    assert done.err.startswith("instruction: take the singing out\n") and "trained" not in done.err
    assert "not trained on Bass, only on Drums and Vocals" in run(*edit, "no bass").err


@pytest.mark.parametrize("names", ["", "Drums,,Bass", "Drums,drums", "x" * 41])
def test_wrong_instruments_of_convert(run: Run, names: str) -> None:
    run("convert", "--adapter", "a", "--base", "b", "--t5", "c", "--out", "d", "--instruments", names).fails(
        2, "--instruments"
    )
