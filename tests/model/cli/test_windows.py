"""Windows at the command line: `edit --window`, and what `convert` says of the frames that were trained."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from model import InstructMusicGen

from .conftest import GOLDEN, TEXT, Run

UPSTREAM = ("--adapter", GOLDEN / "upstream.ckpt", "--base", GOLDEN / "base", "--t5", GOLDEN / "t5", "--bits", "32")


def test_the_window_reaches_the_model(tmp_path: Path, bundle: Path, clip: Path, run: Run) -> None:
    out = tmp_path / "out.wav"
    command = ("edit", clip, "-i", TEXT, "-o", out, "--model", bundle, "--backend", "reference", "--greedy")
    assert run(*command, "--window", "0.16").code == 0
    model = InstructMusicGen.from_pretrained(bundle, backend="reference")
    samples = mx.array(soundfile.read(clip, dtype="float32")[0])
    want = np.array(model.generate(TEXT, samples, greedy=True, window_frames=8))
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32")[0], want)
    assert (np.array(model.generate(TEXT, samples, greedy=True)) != want).any()


def test_a_window_the_table_does_not_reach_is_refused(tmp_path: Path, bundle: Path, clip: Path, run: Run) -> None:
    out = tmp_path / "out.wav"
    done = run("edit", clip, "-i", TEXT, "-o", out, "--model", bundle, "--backend", "reference", "--window", "0.9")
    done.fails(2, "--window 0.9", "longest window is 0.8 s; give at most 0.8")
    assert not out.exists()


@pytest.mark.slow
def test_a_window_longer_than_was_trained_gets_a_line(tmp_path: Path, clip: Path, run: Run) -> None:
    out = tmp_path / "bundle"
    done = run("convert", *UPSTREAM, "--out", out, "--trained-frames", "10")
    assert done.code == 0 and "10 of 40 frames were trained" in done.out
    edit = ("edit", clip, "-i", TEXT, "-o", tmp_path / "x.wav", "--model", out, "--backend", "reference", "--greedy")
    assert "longer than the 0.2 s that this model was trained on" in run(*edit, "--window", "0.3").err
    assert "--window" not in run(*edit, "--window", "0.2").err


def test_convert_says_that_nothing_shows_what_was_trained(tmp_path: Path, run: Run) -> None:
    done = run("convert", *UPSTREAM, "--out", tmp_path / "bundle")
    assert "no step" in done.out and "the default window is 40 frames" in done.out and "--trained-frames" in done.out


def test_more_trained_frames_than_the_table_has_leave_nothing(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "bundle"
    done = run("convert", *UPSTREAM, "--out", out, "--trained-frames", "41")
    done.fails(2, "--trained-frames 41", "between 1 and 40")
    assert not out.exists()
