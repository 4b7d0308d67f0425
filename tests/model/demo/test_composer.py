"""Laws of the composer: no torch, no fluidsynth."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.demo.training.failures import need_font
from model.demo.training.music import held_out_styles, library, render, training_styles
from model.demo.training.music.library import SETS, held_out_record, write_songs
from model.demo.training.music.song import SECONDS, compose
from model.demo.training.music.style import STEMS
from model.demo.training.music.theory import read_figure, swung
from model.demo.training.workspace import Workspace
from model.errors import UserError

pytestmark = pytest.mark.slow

BOTH = (training_styles, held_out_styles)


def test_every_figure_of_every_style_is_one_bar_long() -> None:
    for module in BOTH:
        for style in module.STYLES:
            for figure in style.figures():
                assert len(figure) == style.bar, (style.name, figure)


def test_no_held_out_style_figure_preset_or_seed_is_trained() -> None:
    trained = {style.name for style in training_styles.STYLES}
    assert not trained & {style.name for style in held_out_styles.STYLES}
    for stem in STEMS:
        assert not set(getattr(training_styles.PRESETS, stem)) & set(getattr(held_out_styles.PRESETS, stem))
    assert len({chosen.first_seed for chosen in SETS.values()}) == len(SETS)


def test_a_style_that_is_trained_and_held_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out_styles, "STYLES", (training_styles.STYLES[3],))
    with pytest.raises(UserError, match="'house' is both trained and held out"):
        held_out_record()


def test_the_record_changes_with_any_held_out_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    before = held_out_record()["sha256"]
    monkeypatch.setattr(held_out_styles, "STYLES", held_out_styles.STYLES[:-1])
    assert held_out_record()["sha256"] != before


def test_a_work_folder_of_other_held_out_styles_is_refused(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    work.write_log(held_out={"sha256": "other"})
    with pytest.raises(UserError, match="records other held-out styles"):
        write_songs(work, "own", 1)


def test_what_is_held_out_is_logged_before_the_first_note_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workspace(tmp_path)

    def rendered(songs: object, jobs: int) -> np.ndarray:
        assert json.loads(work.log_path.read_text())["held_out"] == held_out_record()
        return np.zeros((1, 4, 100), np.float32)

    monkeypatch.setattr(library, "render", rendered)
    write_songs(work, "own", 1)
    assert work.log()["songs"][0]["songs"] == 1


@given(seed=st.integers(0, 2**40), held_out=st.booleans())
def test_a_song_is_four_parts_within_the_clip_and_the_same_again(seed: int, held_out: bool) -> None:
    module = BOTH[held_out]
    song = compose(seed, module.STYLES, module.PRESETS)
    assert song == compose(seed, module.STYLES, module.PRESETS)
    assert len(song.parts) == len(STEMS)
    for part in song.parts:
        for note in part.notes:
            assert 0 <= note.start < SECONDS and note.length > 0 and note.start + note.length <= SECONDS + 0.05
            assert 0 <= note.pitch <= 127 and 1 <= note.velocity <= 127


@given(seed=st.integers(0, 2**40))
def test_instruments_keep_to_their_registers(seed: int) -> None:
    parts = compose(seed, training_styles.STYLES, training_styles.PRESETS).parts
    assert all(28 <= note.pitch <= 67 for note in parts[1].notes)
    assert all(36 <= note.pitch <= 103 for note in parts[2].notes)
    assert all(40 <= note.pitch <= 84 for note in parts[3].notes)


def test_a_hundred_songs_are_varied() -> None:
    songs = [SETS["train"].song(index) for index in range(100)]
    assert len({song.style for song in songs}) >= 12
    assert len({song.key for song in songs}) == 12
    assert {3, 4} <= {style.bar // 4 for style in training_styles.STYLES}
    for stem in range(4):
        assert len({song.parts[stem].program for song in songs}) >= 4
    guitars = Counter(song.parts[3].program for song in songs)
    assert set(guitars) <= {25, 27, 28, 29, 30}, "guitars are steel, clean, muted and driven, never nylon"
    entries = sum(bool(part.notes) and part.notes[0].start > 0.9 for song in songs for part in song.parts)
    assert 5 <= entries <= 120


@given(position=st.floats(0, 64), share=st.floats(0.5, 0.68), grid=st.sampled_from([2, 4]))
def test_swing_keeps_beats_and_order(position: float, share: float, grid: int) -> None:
    assert swung(float(4 * (position // 4)), share, grid) == 4 * (position // 4)
    assert swung(position, share, grid) <= swung(position + 0.25, share, grid)


@given(st.text(alphabet="rfo.-", min_size=1, max_size=24))
def test_a_figure_is_read_back_whole(figure: str) -> None:
    written = ["."] * len(figure)
    for hit in read_figure(figure):
        written[hit.start : hit.start + hit.length] = [hit.symbol, *"-" * (hit.length - 1)]
    held = "".join(written)
    assert [c for c in held if c not in "-."] == [c for c in figure if c not in "-."]
    assert all(a == b or (a == "." and b == "-") for a, b in zip(held, figure))


def test_midi_holds_each_note_at_its_time_and_slot() -> None:
    songs = [SETS["train"].song(index) for index in range(2)]
    parts = [song.parts[1] for song in songs]
    score = render.score_of(parts, drums=False)
    at, starts = 0, []
    for message in score.tracks[0]:
        at += message.time
        if message.type == "note_on":
            starts.append((at / render.TICKS, message.note))
    wanted = [(row * (SECONDS + render.TAIL) + n.start, n.pitch) for row, part in enumerate(parts) for n in part.notes]
    assert len(starts) == len(wanted)
    for (found, pitch), (start, key) in zip(sorted(starts), sorted(wanted)):
        assert pitch == key and abs(found - start) < 0.002


def test_a_missing_fluidsynth_or_soundfont_is_one_line_that_names_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from model.demo.training import failures

    song = SETS["own"].song(0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install fluidsynth"):
        render.render([song])
    monkeypatch.setattr(failures, "FONTS", ((tmp_path / "none.sf2", "fluid-soundfont-gm"),))
    with pytest.raises(UserError, match=r"none\.sf2 is missing; install the package 'fluid-soundfont-gm'"):
        need_font(0)


@pytest.mark.slow
@pytest.mark.render
def test_rendered_stems_sound_where_their_notes_are() -> None:
    songs = [SETS["own"].song(index) for index in range(2)]
    audio = render.render(songs)
    assert audio.shape == (2, 4, 160_000) and np.abs(audio.sum(axis=1)).max() <= 0.951
    for song, stems in zip(songs, audio):
        for part, stem in zip(song.parts, stems):
            first = min(note.start for note in part.notes)
            level = np.abs(stem)
            assert level.max() > 0.01
            assert level[: max(1, int((first - 0.02) * render.RATE))].max() < 0.02 * level.max()
