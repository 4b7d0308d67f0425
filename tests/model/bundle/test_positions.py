"""The step in the variance of position rows, on tables whose step is known, and the windows that follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings

from model.bundle import info
from model.bundle.bundle import demo_path, open_bundle
from model.bundle.positions import variance_step
from model.config import AdapterConfig
from model.convert.convert import convert
from model.decoding import windows
from model.errors import UsageError
from model.pipeline import InstructMusicGen

from ..conftest import refused
from ..convert.upstream_files import State
from ..golden import tensors
from .test_info import text

TEXT = "Music piece. Instruct: No Drums."


def tables(rows: int, trained: int, scale: float, *, dim: int = 64, layers: int = 4, seed: int = 0) -> np.ndarray:
    """Position tables drawn from N(0, 1), the trained rows then scaled."""
    drawn = np.random.default_rng(seed).normal(size=(layers, rows, dim))
    drawn[:, :trained] *= scale
    return drawn


@settings(max_examples=60, deadline=None)
@given(
    trained=st.integers(20, 480), scale=st.sampled_from([0.5, 0.7, 1.4, 2.0]), level=st.floats(0.01, 100),
    dtype=st.sampled_from([np.float16, np.float32]), seed=st.integers(0, 2**16),
)  # fmt: skip
def test_a_clear_step_is_found_where_it_is(trained: int, scale: float, level: float, dtype: Any, seed: int) -> None:
    found = variance_step((tables(501, trained, scale, seed=seed) * level).astype(dtype))
    assert found.row == trained and found.trained_frames == trained - 1
    assert found.before == pytest.approx((scale * level) ** 2, rel=0.15)
    assert found.after == pytest.approx(level**2, rel=0.15) and found.t > 10


@pytest.mark.slow
def test_a_step_of_two_percent_shows_in_tables_of_the_published_size() -> None:
    found = variance_step(tables(501, 251, 1.01, dim=2048, layers=16))
    assert found.row is not None and abs(found.row - 251) <= 3


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(2, 501), dim=st.sampled_from([16, 64]), seed=st.integers(0, 2**16))
def test_rows_of_one_variance_have_no_step(rows: int, dim: int, seed: int) -> None:
    found = variance_step(tables(rows, 0, 1.0, dim=dim, seed=seed))
    assert found.row is None and found.trained_frames is None and found.before == found.after


def test_a_slope_is_no_step_and_does_not_hide_one() -> None:
    slope = np.linspace(2, 1, 501)[:, None]
    assert variance_step(tables(501, 0, 1.0) * slope).row is None
    ending = np.concatenate([np.linspace(3, 1.5, 251), np.ones(250)])[:, None]
    assert variance_step(tables(501, 0, 1.0) * ending).row == 251


def test_one_loud_row_makes_no_step() -> None:
    loud = tables(501, 0, 1.0)
    loud[:, 0] *= 20
    assert variance_step(loud).row is None
    loud = tables(501, 251, 1.4)
    loud[:, 0] *= 20
    assert variance_step(loud).row == 251


def test_rows_left_at_zero_are_untrained() -> None:
    left = tables(501, 251, 1.3)
    left[:, 251:] = 0
    assert variance_step(left).row == 251


def test_every_table_counts_alike() -> None:
    """A table of large values must not drown the step of the others."""
    drawn = tables(501, 251, 1.5, layers=6)
    drawn[0] = tables(501, 0, 1000.0, layers=1)[0] * 1000
    assert variance_step(drawn).row == 251


@pytest.mark.parametrize(
    ("longest", "trained", "window"), [(500, None, 250), (500, 500, 500), (500, 100, 100), (40, None, 40), (40, 7, 7)]
)
def test_the_default_window_is_what_was_trained(longest: int, trained: int | None, window: int) -> None:
    config = AdapterConfig(3, longest, 0, trained)
    assert config.window_frames == window
    assert config == AdapterConfig(3, longest)  # the same architecture


def trained_half(state: State) -> None:
    """The rows of golden A's position table, half of them as if trained."""
    (name,) = (n for n in state if n.endswith("pos_emb"))
    drawn = np.random.default_rng(1).normal(size=state[name].shape)
    drawn[:, :21] *= 1.7
    state[name] = drawn.astype(np.float32)


def test_convert_writes_what_the_step_tells(upstream: Callable[..., dict[str, Any]]) -> None:
    bundle = open_bundle(convert(**upstream(trained_half)))
    assert bundle.raw_config["cp_transformer"]["trained_frames"] == 20
    assert bundle.config.adapter.trained_frames == bundle.config.adapter.window_frames == 20
    found = info.describe(bundle)["positions"]
    assert (found["rows"], found["row"], found["step_frames"], found["trained_frames"]) == (41, 21, 20, 20)
    shown = text(info.describe(bundle))
    assert "before row 21" in shown and "20 frames were trained" in shown and "0.4 s (20 frames) by default" in shown


def test_convert_writes_nothing_where_there_is_no_step(golden_bundle: Path) -> None:
    bundle = open_bundle(golden_bundle)
    assert "trained_frames" not in bundle.raw_config["cp_transformer"]
    assert "no step" in text(info.describe(bundle))


def test_trained_frames_that_are_told(upstream: Callable[..., dict[str, Any]]) -> None:
    arguments = upstream(trained_half)
    assert open_bundle(convert(**arguments, trained_frames=33)).config.adapter.trained_frames == 33
    for wrong in (0, 41):
        with pytest.raises(UsageError, match=f"--trained-frames {wrong} must be between 1 and 40"):
            convert(**arguments, trained_frames=wrong)


@pytest.mark.parametrize("wrong", [0, 41, 2.5, "20", True])
def test_a_bundle_cannot_have_been_trained_on_more_than_its_table(edited: Callable[..., Path], wrong: Any) -> None:
    path = edited(32, config=lambda raw: raw["cp_transformer"].update(trained_frames=wrong))
    assert f"trained_frames is {wrong!r}" in refused(path)


@pytest.mark.slow
def test_windows_follow_the_entry_and_explicit_ones_override_it(edited: Callable[..., Path]) -> None:
    path = edited(32, config=lambda raw: raw["cp_transformer"].update(trained_frames=12))
    m = InstructMusicGen.from_pretrained(path, "reference")
    codes = tensors("lm_teacher")["codes"][:1, :, :30]

    def edit(**how: Any) -> np.ndarray:
        return np.array(m.edit_codes(codes, TEXT, greedy=True, **how))

    np.testing.assert_array_equal(edit(), edit(plan=windows.plan(30, 12, 6)))
    np.testing.assert_array_equal(edit(window_frames=40), edit(plan=windows.plan(30, 40, 20)))
    assert (edit() != edit(window_frames=40)).any()


def test_generate_takes_the_window(golden_bundle: Path) -> None:
    m = InstructMusicGen.from_pretrained(golden_bundle, "reference")
    audio = mx.random.normal((640 * 20,), key=mx.random.key(3)) * 0.1
    got = m.generate(TEXT, audio, greedy=True, window_frames=12, stride_frames=5)
    codes = m.edit_codes(m.encode(audio), TEXT, greedy=True, window_frames=12, stride_frames=5)
    np.testing.assert_array_equal(np.array(got), np.array(m.decode(codes)[0]))
    with pytest.raises(ValueError, match="window_frames=41"):
        m.generate(TEXT, audio, window_frames=41)


def test_the_demo_edits_five_seconds_at_a_time() -> None:
    adapter = open_bundle(demo_path()).config.adapter
    assert replace(adapter, trained_frames=None).window_frames == 250 == adapter.max_n_frames
