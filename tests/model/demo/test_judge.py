"""Laws of the judge: true answers win, wrong ones lose, silence and floors are told; no torch."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from model.bundle.bundle import demo_path
from model.demo.training.__main__ import main
from model.demo.training.judge.presence import fit, threshold
from model.demo.training.judge.score import CANDIDATES, Truth, mask_of, nearest, score
from model.demo.training.judge.summary import share, summarize
from model.demo.training.music.library import SETS
from model.evaluation.measures.notes import f1, piano_roll
from model.evaluation.measures.onsets import onset_f, onsets
from model.spectra import log_mel

from .conftest import RATE, sketch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def truth() -> Truth:
    """A song whose codec changes nothing."""
    found = Truth(sketch(SETS["own"].song(3)), {})
    found.coded.update({mask: found.mixture(mask) for mask in CANDIDATES})
    return found


EDITS = [(action, stem) for action in ("only", "no", "add") for stem in range(4)]


@pytest.mark.parametrize(("action", "stem"), EDITS)
def test_the_true_answer_is_nearest_and_the_untouched_input_is_not(action: str, stem: int, truth: Truth) -> None:
    source, target = mask_of(action, stem)
    perfect = score(truth.mixture(target), action, stem, truth, truth.mixture(source), notes=False)
    assert perfect["nearest"] == 1 and perfect["edit"] == 0 and perfect["ceiling"] == 0
    lazy = score(truth.mixture(source), action, stem, truth, None, notes=False)
    assert lazy["nearest"] == 0 and lazy["edit"] == pytest.approx(perfect["untouched"]) and lazy["edit"] > 0.1
    assert perfect["floor"] == pytest.approx(perfect["untouched"])


def test_no_is_scored_where_the_removed_stem_was(truth: Truth) -> None:
    cells = truth.owned(0)
    assert 0.02 < cells.mean() < 0.98
    spared = score(truth.mixture(15), "no", 0, truth, None, notes=False)
    assert spared["edit"] == pytest.approx(spared["untouched"]) and spared["kept"] == spared["kept untouched"]
    ruined = score(0.05 * truth.mixture(14), "no", 0, truth, None, notes=False)
    assert ruined["kept"] > spared["kept"] + 3


def test_every_candidate_is_nearest_to_itself(truth: Truth) -> None:
    for mask in CANDIDATES:
        assert nearest(log_mel(truth.mixture(mask)), truth) == mask


def test_clicks_are_found_where_they_are_and_a_shift_loses() -> None:
    audio = np.zeros(3 * RATE, np.float32)
    times = [0.5, 1.0, 1.3, 2.2]
    for at in times:
        audio[int(at * RATE) : int(at * RATE) + 800] = np.random.default_rng(0).uniform(-0.5, 0.5, 800)
    found = onsets(audio)
    assert len(found) == 4 and np.abs(found - np.array(times)).max() < 0.03
    assert onset_f(found, np.array(times)) == 1
    assert onset_f(found + 0.2, np.array(times)) < 0.3
    assert len(onsets(np.zeros(RATE, np.float32))) == 0


@given(st.integers(0, 6), st.integers(0, 6))
def test_onset_f_is_symmetric_and_within_one(a: int, b: int) -> None:
    x, y = np.arange(a) * 0.31, np.arange(b) * 0.29
    assert onset_f(x, y) == pytest.approx(onset_f(y, x)) and 0 <= onset_f(x, y) <= 1


def test_basic_pitch_hears_the_notes_that_sound() -> None:
    t = np.arange(3 * RATE) / RATE
    audio = np.zeros(len(t), np.float32)
    for start, pitch in ((0.2, 60), (1.2, 67), (2.1, 64)):
        inside = (t >= start) & (t < start + 0.7)
        tone = sum(np.sin(2 * np.pi * n * 440 * 2 ** ((pitch - 69) / 12) * t) / n**1.5 for n in range(1, 6))
        audio[inside] += (0.2 * tone * np.exp(-(t - start)))[inside].astype(np.float32)
    roll = piano_roll(audio)
    frames = {pitch: roll[:, pitch - 21].mean() for pitch in (60, 64, 67)}
    assert all(0.1 < share < 0.4 for share in frames.values()), frames
    assert f1(roll, roll) == 1
    assert f1(roll, np.roll(roll, 1, axis=1)) < 0.3
    assert not piano_roll(np.zeros(2 * RATE, np.float32)).any()


def test_presence_tells_additions_of_new_songs_from_nothing_and_from_other_stems() -> None:
    def spectra(name: str, index: int) -> dict[int, np.ndarray]:
        song = Truth(sketch(SETS[name].song(index)), {})
        return {mask: log_mel(song.mixture(mask)) for mask in (15, 14, 13, 11, 7, 3)}

    presence = fit([spectra("train", index) for index in range(14)])
    songs = [spectra("own", index) for index in range(8)]
    for stem in (0, 1):
        true = np.array([presence(song[15 ^ 1 << stem], song[15])[stem] for song in songs])
        nothing = np.array([presence(song[15], song[15])[stem] for song in songs])
        other = np.array([presence(song[15 ^ 2 >> stem], song[15])[stem] for song in songs])
        assert (true >= threshold(true)).mean() >= 0.85
        assert (nothing < threshold(true)).all()
        assert (other < threshold(true)).mean() >= 0.7
    song = songs[0]
    assert np.allclose(presence(song[15], song[15]), presence(song[3], song[3]))


def test_shares_are_by_song_with_an_interval_that_holds_the_mean() -> None:
    rows = [
        {"song": song, "action": "only", "stem": "bass", "nearest": float(song % 2), "edit": 1.0, "untouched": 2.0}
        for song in range(8)
    ]
    found = share(rows, "nearest", ("only",))
    assert found["percent"] == 50 and 0 <= found["low"] < 50 < found["high"] <= 100
    assert share(rows, "nearest", ("no",)) == {}
    summary = summarize(rows)
    assert summary["summary"]["Only: nearer than the untouched input"]["percent"] == 100
    assert summary["edits"]["only bass"]["nearest"] == 0.5


@pytest.mark.slow
def test_songs_edits_and_true_answers_are_written_to_listen_to(
    sketched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(demo_path())
    assert main(["show", "--work", str(sketched), "--bundle", bundle, "--songs", "1", "--out", str(tmp_path)]) == 0
    index = (tmp_path / "README.md").read_text()
    linked = re.findall(r"\((audio/song1-[\w-]+\.mp3)\)", index)
    assert len(set(linked)) == 7, "the input, three edits and three true answers"
    for name in linked:
        samples, rate = soundfile.read(tmp_path / name)
        assert rate == RATE and abs(len(samples) - 5 * RATE) < 3000
    assert (tmp_path / "spectrograms.png").stat().st_size > 10_000
    assert "begin with its README.md" in capsys.readouterr().out
