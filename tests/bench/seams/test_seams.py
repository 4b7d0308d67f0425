"""`bench seams`: a planted seam is found, a place that is none is not, and the same windows are compared."""

from __future__ import annotations

import itertools

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import cli
from model.config import HOP
from model.decoding.windows import plan
from model.evaluation.seams import WindowLayout, jumps, shifted


@given(total=st.integers(1, 300), window=st.integers(1, 60), data=st.data())
def test_shifted_windows_edit_every_frame_once_and_end_elsewhere(total: int, window: int, data: st.DataObject) -> None:
    ahead = data.draw(st.integers(0, window - 1))
    layout = WindowLayout(window, data.draw(st.integers(1, window - ahead)), ahead)
    by = data.draw(st.integers(0, layout.stride - 1))
    windows = shifted(total, layout, by)
    frames = [frame for w in windows for frame in range(w.offset + w.prompt, w.stop)]
    assert frames == list(range(total))
    for before, after in itertools.pairwise(windows):
        assert after.offset + after.prompt == before.stop and after.frames + after.ahead <= window
    if not by:
        assert windows == plan(total, layout.window, layout.stride, layout.ahead)


def test_a_step_of_level_or_of_pitch_is_a_jump_and_steady_sound_is_none() -> None:
    time = np.arange(2 * 50 * HOP) / 32_000
    low, high = (0.2 * np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (220, 1760))
    half = len(time) // 2
    louder, other = low.copy(), low.copy()
    louder[half:] *= 4
    other[half:] = high[half:]
    steady, level, pitch = (jumps(sound, 50) for sound in (low, louder, other))
    assert steady is not None and level is not None and pitch is not None
    assert steady["level"] < 0.2 and steady["spectrum"] < 0.5
    assert level["level"] == pytest.approx(20 * np.log10(4), abs=0.2)
    assert pitch["level"] < 0.2 and pitch["spectrum"] > 5 * steady["spectrum"] + 1
    assert jumps(np.zeros_like(low), 50) is None and jumps(low, 0) is None


@pytest.mark.slow
def test_the_table_says_what_was_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["seams", "--seconds", "1.4", "--seeds", "1", "--layouts", "20/10/0", "20/8/4"]) == 0
    out = capsys.readouterr().out
    assert "0.4 / 0.2 / 0" in out and "0.4 / 0.16 / 0.08" in out and "ratio" in out


@pytest.mark.parametrize("text", ["20/10", "a/b/c", "20/21/0", "20/18/4", "9999/1/0"])
def test_layouts_that_cannot_be_are_named(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["seams", "--layouts", text]) == 2
    assert f"--layouts {text}" in capsys.readouterr().err


@pytest.mark.skipif(mx.metal.is_available(), reason="this machine has a Metal GPU")
def test_a_backend_that_cannot_run_here_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["seams", "--backend", "metal"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: backend 'metal' cannot run here") and said.count("\n") == 1
