"""Instruction files, true answers made of stems, and what should remain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.errors import UserError
from model.evaluation.quality.instructions import Instruction, read, stems, truth, with_remains

NAMES = ("drums", "bass", "piano")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "song"
    place.mkdir()
    for i, name in enumerate(NAMES):
        x = 0.1 * np.random.default_rng(i).standard_normal(32_000)
        soundfile.write(place / f"{name.capitalize()}.wav", x, 32_000, "FLOAT")
    return tmp_path


def asked(text: str) -> Instruction:
    return Instruction(f"Music piece. Instruct: {text}", text)


def test_true_answers(folder: Path) -> None:
    found = stems(folder, "song", 32_000)
    assert sorted(found) == sorted(NAMES)
    for text in ("Only Drums.", "Extract drums", "only DRUMS ."):
        assert np.array_equal(truth(asked(text), found), found["drums"])
    np.testing.assert_allclose(truth(asked("Remove Drums."), found), found["bass"] + found["piano"], atol=1e-7)
    np.testing.assert_allclose(truth(asked("Add Piano."), found), sum(found.values()), atol=1e-7)
    assert truth(asked("Only Guitar."), found) is None
    assert truth(asked("Make it sad."), found) is None


def test_stems_are_cut_and_padded_to_the_clip(folder: Path) -> None:
    assert {len(x) for x in stems(folder, "song", 16_000).values()} == {16_000}
    longer = stems(folder, "song", 40_000)["bass"]
    assert len(longer) == 40_000 and not longer[32_000:].any()
    with pytest.raises(UserError, match="has no stems"):
        stems(folder, "other", 100)


def test_what_remains_is_said_or_the_other_stems(folder: Path) -> None:
    found = stems(folder, "song", 32_000)
    assert with_remains(asked("Remove Drums."), found).remains == "bass and piano"
    said = Instruction("Remove Drums.", "x", "a quiet piano")
    assert with_remains(said, found).remains == "a quiet piano"
    assert with_remains(asked("Only Drums."), found).remains is None
    assert with_remains(asked("Remove Drums."), {}).remains is None


def test_files(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("# comment\n\nMusic piece. Instruct: Remove Drums. | bass and piano\nOnly Bass.\n")
    assert read(text) == [
        Instruction("Music piece. Instruct: Remove Drums.", "Music piece. Instruct: Remove Drums.", "bass and piano"),
        Instruction("Only Bass.", "Only Bass."),
    ]
    yaml = tmp_path / "a.yaml"
    yaml.write_text("- Only Bass.\n- {instruction: Remove Drums., caption: no drums, remains: piano}\n")
    assert read(yaml) == [Instruction("Only Bass.", "Only Bass."), Instruction("Remove Drums.", "no drums", "piano")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "# nothing\n", "no instructions"),
        ("a.yaml", "- {instruct: x}\n", "is not an instruction"),
        ("a.yaml", "- {instruction: x, remains: 3}\n", "must be text"),
        ("a.json", "{", "not YAML or JSON"),
        ("a.txt", "\xff", "cannot be read"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)
