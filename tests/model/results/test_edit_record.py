"""Files say how they were made: tags of every format, the command that makes them again, and what a notebook shows."""

from __future__ import annotations

import io
import json
import shlex
import struct
import time
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from model import InstructMusicGen, audio
from model.audio_files import writing
from model.bundle.bundle import open_bundle
from model.bundle.info import license_of
from model.errors import UserError
from model.results import edit_record as records
from model.results.edit_record import EditRecord
from model.results.edited import edit
from model.results.page import HEIGHT, WIDTH, Sound, page, picture, png

TEXT = "Music piece. Instruct: Only Drums."
MADE = EditRecord(
    TEXT, 5, "owner/name", "0" * 16, "native", "MIT", "0.1.0", "song.wav", "ab" * 32, {"top_k": 9, "greedy": True}
)
SOUND = np.random.default_rng(0).normal(0, 0.1, 3200).astype(np.float32)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400)


@given(WORDS, st.integers(0, 2**64 - 1), st.sampled_from([".wav", ".flac", ".ogg"]))
def test_records_come_back_out_of_every_format(text: str, seed: int, suffix: str) -> None:
    import tempfile

    made = replace(MADE, sentence=text, seed=seed).sized(3200)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        audio.save(path, SOUND, 32_000, tags=made.tags())
        assert records.read(path) == made and records.is_whole(path, replace(made, frames=0))
        sound, rate = soundfile.read(path, dtype="float32")
        assert (len(sound), rate) == (3200, 32_000) and (suffix == ".ogg" or np.abs(sound - SOUND).max() < 1e-6)


def test_long_sentences_fit_into_wav(tmp_path: Path) -> None:
    """libsndfile reads no INFO above 2 KB."""
    made = replace(MADE, sentence="word " * 4000)
    audio.save(tmp_path / "x.wav", SOUND, 32_000, tags=made.tags())
    assert records.read(tmp_path / "x.wav") == made
    assert np.array_equal(audio.load(tmp_path / "x.wav").samples, SOUND)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_players_find_title_license_and_program(tmp_path: Path, suffix: str) -> None:
    audio.save(tmp_path / f"x{suffix}", SOUND, 32_000, tags=MADE.tags())
    with soundfile.SoundFile(tmp_path / f"x{suffix}") as file:
        assert file.title == TEXT and file.copyright == "MIT" and file.software.startswith("instruct-musicgen-mlx 0.1")
        assert file.license == ("" if suffix == ".wav" else "MIT")
        assert json.loads(file.comment)["instruct-musicgen"]["seed"] == 5


def test_tags_are_the_same_bytes_again_whatever_they_hold(tmp_path: Path) -> None:
    """A PEAK in a text is not taken for the chunk that holds a time."""
    made = replace(MADE, sentence="PEAK PEAK LIST data fact")
    audio.save(tmp_path / "a.wav", SOUND, 32_000, tags=made.tags())
    time.sleep(1 - time.time() % 1)  # that time counts seconds
    audio.save(tmp_path / "b.wav", SOUND, 32_000, tags=made.tags())
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize("comment", [
    "", "hello", "{}", '{"instruct-musicgen": 3}', '{"instruct-musicgen": {"sentence": "x"}}', "[1", '{"a": NaN}',
    "[" * 100_000,
    json.dumps({"instruct-musicgen": {**asdict(MADE), "seed": "5"}}),
    json.dumps({"instruct-musicgen": {**asdict(MADE), "options": [1]}}),
    json.dumps({"instruct-musicgen": {**asdict(MADE), "sentence": {"a": 1}}}),
])  # fmt: skip
def test_tags_of_others_and_damaged_ones_are_refused(tmp_path: Path, comment: str) -> None:
    audio.save(tmp_path / "x.wav", SOUND, 32_000, tags={"comment": comment} if comment else None)
    with pytest.raises(UserError, match=r"x\.wav: its tags"):
        records.read(tmp_path / "x.wav")


def test_files_that_are_none_say_nothing(tmp_path: Path) -> None:
    for content in (
        b"",
        b"RIFF",
        b"RIFF\xff\xff\xff\xffWAVELIST\xff\xff\xff\xffINFOICMT\xff\xff\xff\xff",
        b"fLaC",
        b"x" * 99,
    ):
        (tmp_path / "x.wav").write_bytes(content)
        assert writing.comment(tmp_path / "x.wav") in ("", "\ufffd") or len(content) > 8
        with pytest.raises(UserError):
            records.read(tmp_path / "x.wav")
    assert writing.comment(tmp_path / "absent.wav") == ""


def test_whole_is_only_what_was_made_so_and_has_all_samples(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    audio.save(path, SOUND, 32_000, tags=MADE.sized(3200).tags())
    assert records.is_whole(path, MADE)
    changes: list[dict[str, Any]] = [
        {"seed": 6}, {"sentence": "x"}, {"weights": "1" * 16}, {"backend": "metal"}, {"options": {}},
        {"input_sha256": None}, {"version": "9"},
    ]  # fmt: skip
    for other in changes:
        assert not records.is_whole(path, replace(MADE, **other)), other
    path.write_bytes(path.read_bytes()[:-40])
    assert not records.is_whole(path, MADE) and not records.is_whole(tmp_path / "absent.wav", MADE)


def test_the_command_names_all_that_was_not_default() -> None:
    words = shlex.split(replace(MADE, input="my song.wav").command("out put.wav"))
    assert words[:3] == ["instruct-musicgen", "edit", "my song.wav"] and words[-2:] == ["-o", "out put.wav"]
    for part in (["-i", TEXT], ["--seed", "5"], ["--top-k", "9"], ["--model", "owner/name"], ["--backend", "native"]):
        assert part == words[words.index(part[0]) :][: len(part)]
    assert "--greedy" in words and words[words.index("--greedy") + 1].startswith("--")
    rest = shlex.split(records.residual(MADE).command("r.wav"))
    assert rest[-4:] == ["-o", "edit.wav", "--residual", "r.wav"]


def test_fingerprints_tell_weights_apart(golden_bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(golden_bundle, tmp_path / "copy"))
    first = records.fingerprint(open_bundle(golden_bundle))
    assert records.fingerprint(open_bundle(copy)) == first and len(first) == 16
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert records.fingerprint(open_bundle(copy)) != first


def test_the_license_is_what_the_bundle_states(golden_bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(golden_bundle, tmp_path / "copy"))
    assert license_of(open_bundle(copy)) == "CC-BY-NC-4.0"
    config = json.loads((copy / "config.json").read_text())
    for changes, want in (
        ({"license": "MIT"}, "MIT"),
        ({"license": 3}, "CC-BY-NC-4.0"),
        ({"random_weights": True}, None),
    ):
        (copy / "config.json").write_text(json.dumps(config | changes))
        assert license_of(open_bundle(copy)) == want


def test_an_edit_is_generates_samples_and_saves_its_record(golden_bundle: Path, tmp_path: Path) -> None:
    model = InstructMusicGen.from_pretrained(golden_bundle, backend="reference")
    audio.save(tmp_path / "in.wav", SOUND, 32_000)
    found = edit(model, tmp_path / "in.wav", "only the drums", seed=2, top_k=7)
    assert np.array_equal(found.samples, np.array(model.generate(TEXT, SOUND, seed=2, top_k=7)))
    found.save(tmp_path / "out.flac")
    made = records.read(tmp_path / "out.flac")
    assert (made.sentence, made.seed, made.input, made.options) == (TEXT, 2, "in.wav", {"top_k": 7})
    assert found._repr_html_().count("<audio") == 2
    assert edit(model, SOUND, TEXT).made.input == ""


def test_a_page_escapes_captions_and_holds_whole_files() -> None:
    import base64
    import re

    sound = np.stack([SOUND, SOUND * 20], axis=1)
    text = page([Sound("<script>alert(1)</script>", sound, 44_100)])
    assert "<script" not in text and "&lt;script" in text
    wav = base64.b64decode(re.findall(r"data:audio/wav;base64,([^']+)'", text)[0])
    played, rate = soundfile.read(io.BytesIO(wav))
    assert rate == 44_100 and np.abs(played - sound / np.abs(sound).max()).max() < 1e-4


def test_pictures_show_where_and_when_it_sounds(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib.image")
    tone = 0.3 * np.sin(2 * np.pi * 6000 * np.arange(32_000) / 32_000).astype(np.float32)
    pixels = picture(np.concatenate([np.zeros(32_000, np.float32), tone]), 32_000)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    light = pixels.astype(int).sum(axis=2)
    assert light[:, : WIDTH // 2 - 20].max() < 100 < light[:, WIDTH // 2 + 20 :].max()
    rows = light[:, WIDTH * 3 // 4]
    assert rows.argmax() < HEIGHT / 2  # 6 kHz lies in the upper half of the mel scale
    (tmp_path / "x.png").write_bytes(png(pixels))
    assert np.array_equal((matplotlib.imread(tmp_path / "x.png")[..., :3] * 255).round().astype(np.uint8), pixels)


@given(st.integers(1, 40), st.integers(1, 40))
def test_png_files_are_well_formed(width: int, height: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    data, at, kinds = png(pixels), 8, []
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(body)
        kinds.append(body[:4])
        at += 12 + size
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
