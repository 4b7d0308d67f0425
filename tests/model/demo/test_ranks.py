"""What the tools say of scores and masks, on rows whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model.demo.training.judge.ranks import gains, lines
from model.demo.training.judge.splits import ALL, summary
from model.demo.training.judge.splits import lines as split_lines
from model.evaluation.measures.si_sdr import si_sdr


def candidates(songs: int, skill: float, count: int = 6, seed: int = 0) -> list[dict[str, Any]]:
    """Edits of which a third reach the target; the score is that and noise, `skill` of it."""
    rng, rows = np.random.default_rng(seed), []
    for song in range(songs):
        for stem in ("drums", "bass"):
            for number in range(count):
                reached = float(number % 3 == 0)
                told = {"good": skill * reached + (1 - skill) * float(rng.normal()), "noise": float(rng.normal())}
                rows.append({
                    "song": song, "action": "only", "stem": stem, "seed": number, "reached": reached,
                    "distance": 5 - reached, "scores": told,
                })  # fmt: skip
    return rows


def test_a_score_that_knows_beats_chance_and_noise_does_not() -> None:
    found = gains(candidates(20, 1.0))["all"]
    assert found["good"]["rank 1"] == 100 and found["good"]["mean candidate"] == pytest.approx(33.3, abs=0.1)
    assert found["good"]["reached"]["low"] > 60 and found["good"]["nearer"]["mean"] == pytest.approx(0.67, abs=0.01)
    assert found["oracle"]["rank 1"] == 100


def test_noise_beats_chance_no_more_often_than_its_interval_says() -> None:
    found = [gains(candidates(12, 0.0, seed=seed))["all"]["noise"]["reached"] for seed in range(12)]
    assert sum(each["low"] < 0 < each["high"] for each in found) >= 9


def test_what_beats_chance_is_said_and_else_that_nothing_does() -> None:
    rows = candidates(20, 1.0)
    about = {"bundle": "b", "set": "own", "songs": 20, "candidates": 6}
    for row in rows:
        row["scores"]["noise"] = float((row["seed"] + row["song"]) % 6)
    assert list(lines({**about, "gains": gains(rows)}))[-1] == "beat chance: good"
    for row in rows:
        del row["scores"]["good"]
    assert "should not be ranked" in list(lines({**about, "gains": gains(rows)}))[-1]


def test_with_few_songs_nothing_is_sure() -> None:
    found = gains(candidates(4, 1.0))["all"]["good"]["reached"]
    assert set(found) == {"mean"}


def test_a_score_that_some_candidates_lack_is_not_judged_on_their_edits() -> None:
    rows = candidates(6, 1.0)
    del rows[0]["scores"]["good"]  # song 0, drums
    assert gains(rows)["all"]["good"]["rank 1"] == 100
    for row in rows:
        row["scores"] = {"good": 1.0} if row["song"] == 0 else {"other": 1.0}
    assert gains(rows)["all"]["good"]["mean candidate"] == pytest.approx(33.3, abs=0.1)


def split_row(song: int, edit: float, mask: float, fall: float) -> dict[str, Any]:
    return {
        "song": song, "action": "only", "stem": "bass", "si-sdr": {"edit": edit, "input": 0.0, "m": mask, ALL: 0.0},
        "fall": {"m": fall, ALL: 0.0}, "kept": {"m": -1.0, ALL: 0.0},
    }  # fmt: skip


def test_a_mask_wins_only_if_it_is_nearer_and_removes_ten_decibels() -> None:
    for mask, fall, win in ((3.0, 12.0, True), (3.0, 9.0, False), (-9.0, 12.0, False)):
        found = summary([split_row(song, -5.0, mask, fall) for song in range(6)])["only"]
        assert found["m"]["win"] is win and found["m"]["wins"] == (100.0 if win else 0.0)
        assert found["m"]["over the edit"]["mean"] == mask + 5
        # The input is nearer than the edit, but a mask that passes all of it removes nothing.
        assert found[ALL]["win"] is False and found[ALL]["wins"] == 0
    text = list(split_lines({"bundle": "b", "set": "own", "songs": 6, "seeds": 1, "summary": {"only": found}}))
    assert any("no win" in line and ALL in line for line in text)


def test_si_sdr_is_the_energy_along_the_truth_over_that_of_the_rest() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 999))
    for estimate, truth in ((a, b), (a + 0.1 * b, a)):
        e, t = estimate - estimate.mean(), truth - truth.mean()
        gain, rest, _, _ = np.linalg.lstsq(t[:, None], e)
        assert si_sdr(estimate, truth) == pytest.approx(10 * np.log10(gain[0] ** 2 * (t @ t) / rest[0]))
