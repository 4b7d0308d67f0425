"""`edit --candidates`: files, their record, ranks, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model import memory
from model.candidates import clap

from .conftest import TEXT, Run

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_clap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with the extra `eval` and without."""
    monkeypatch.setattr(clap, "ready", lambda: False)


def command(clip: Path, bundle: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return "edit", clip, "-i", TEXT, "-o", clip.parent / "song.wav", "--model", bundle, "--backend", "reference", *more


def test_candidates_are_files_of_their_own_seeds_the_best_first(clip: Path, bundle: Path, run: Run) -> None:
    done = run(*command(clip, bundle, "--candidates", "3", "--seed", "4"))
    assert done.code == 0, done
    page = json.loads((clip.parent / "song.json").read_text())
    assert page["ranked_by"] == "fit" and page["sentence"] == TEXT and page["input"] == "clip.wav"
    fits = [each["scores"]["fit"] for each in page["candidates"]]
    assert fits == sorted(fits, reverse=True) and {each["seed"] for each in page["candidates"]} == {4, 5, 6}
    assert set(page["scores"]) == set(page["candidates"][0]["scores"])
    for each in page["candidates"]:
        assert each["file"] == f"song-{each['rank']}.wav"
        assert run(*command(clip, bundle, "--seed", str(each["seed"]))).code == 0
        assert (clip.parent / each["file"]).read_bytes() == (clip.parent / "song.wav").read_bytes()
    assert not (clip.parent / "song-4.wav").exists()


def test_keep_best_writes_the_first_alone(clip: Path, bundle: Path, run: Run) -> None:
    assert run(*command(clip, bundle, "--candidates", "3", "--keep", "best")).code == 0
    assert sorted(os.listdir(clip.parent)) == ["clip.wav", "song.json", "song.wav"]
    page = json.loads((clip.parent / "song.json").read_text())
    assert [each["file"] for each in page["candidates"]] == ["song.wav", None, None]
    best, _ = soundfile.read(clip.parent / "song.wav", dtype="float32")
    assert run(*command(clip, bundle, "--seed", str(page["candidates"][0]["seed"]))).code == 0
    assert np.array_equal(best, soundfile.read(clip.parent / "song.wav", dtype="float32")[0])


def test_no_rank_leaves_the_order_of_seeds_and_says_so(clip: Path, bundle: Path, run: Run) -> None:
    done = run(*command(clip, bundle, "--candidates", "3", "--rank-by", "none"))
    assert "in the order of their seeds" in done.err
    page = json.loads((clip.parent / "song.json").read_text())
    assert page["ranked_by"] is None and [each["seed"] for each in page["candidates"]] == [0, 1, 2]


def test_more_than_memory_holds_is_refused_with_the_count_that_fits(
    clip: Path, bundle: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1_300_000)
    done = run(*command(clip, bundle, "--candidates", "500", "--quiet"))
    assert done.code == 1 and os.listdir(clip.parent) == ["clip.wav"]
    fit = int(done.err.rpartition("; ")[2].split()[0])
    assert 0 < fit < 500 and "500 candidates" in done.err
    run(*command(clip, bundle, "--candidates", str(fit + 1), "--quiet")).fails(1, f"; {fit} fit")
    assert run(*command(clip, bundle, "--candidates", str(fit), "--quiet", "--max-steps", "1")).code == 0


@pytest.mark.parametrize(("more", "fragment"), [
    (("--candidates", "0"), "at least"), (("--candidates", "2", "-o", "-"), "several files"),
    (("--keep", "best"), "--keep needs --candidates; add that or omit"),
    (("--rank-by", "gap"), "--rank-by needs --candidates; add that or omit"),
    (("--candidates", "2", "--from-input"), "only one of them"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(
    clip: Path, bundle: Path, run: Run, more: tuple[str, ...], fragment: str
) -> None:
    done = run(*command(clip, bundle, *more))
    assert done.code == 2 and os.listdir(clip.parent) == ["clip.wav"]
    assert fragment in done.err or "between" in done.err


def test_a_missing_clap_is_one_line(clip: Path, bundle: Path, run: Run, tmp_path: Path) -> None:
    done = run(*command(clip, bundle, "--candidates", "2", "--clap", tmp_path / "absent", "--quiet"))
    done.fails(1, "CLAP", "--rank-by")
    assert os.listdir(clip.parent) == ["clip.wav"]
