"""Laws of the window plan."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.decoding.windows import plan


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, int]:
    window = draw(st.integers(1, 60))
    return draw(st.integers(1, 400)), window, draw(st.integers(1, window))


@given(layouts())
def test_every_frame_is_generated_exactly_once(layout: Any) -> None:
    total, window, stride = layout
    generated: list[Any] = []
    for w in plan(total, window, stride):
        assert 0 <= w.prompt < w.frames <= window
        generated += range(w.offset + w.prompt, w.offset + w.frames)
    assert generated == list(range(total))


@given(layouts())
def test_a_prompt_is_the_tail_of_the_window_before(layout: Any) -> None:
    windows = plan(*layout)
    for before, after in itertools.pairwise(windows):
        assert after.offset == before.offset + layout[2]
        assert after.offset + after.prompt == before.offset + before.frames


@given(layouts(), st.data())
def test_every_frame_but_the_clips_last_is_edited_with_the_look_ahead_in_sight(
    layout: tuple[int, int, int], data: st.DataObject
) -> None:
    """Each window hears `ahead` frames more than it edits, except where the clip ends within it; none twice."""
    total, window, _ = layout
    ahead = data.draw(st.integers(0, window - 1))
    stride = data.draw(st.integers(1, window - ahead))
    windows = plan(total, window, stride, ahead)
    generated: list[int] = []
    for w in windows:
        assert 0 <= w.prompt < w.frames and w.frames + w.ahead <= window and w.stop + w.ahead <= total
        assert w.ahead == (0 if w.stop == total else ahead)
        assert w.steps == w.frames - w.prompt + 3
        generated += range(w.offset + w.prompt, w.stop)
    assert generated == list(range(total))
    for before, after in itertools.pairwise(windows):
        assert (after.offset, after.offset + after.prompt) == (before.offset + stride, before.stop)
    assert ahead or windows == plan(total, window, stride)


@pytest.mark.parametrize(("total", "window", "stride", "ahead"), [(9, 4, 2, 3), (9, 4, 1, 4), (9, 4, 1, -1)])
def test_a_look_ahead_that_leaves_nothing_to_edit_is_refused(total: int, window: int, stride: int, ahead: int) -> None:
    with pytest.raises(ValueError, match="look-ahead"):
        plan(total, window, stride, ahead)


@pytest.mark.parametrize(("total", "window", "stride"), [(0, 4, 2), (5, 0, 1), (5, 4, 0), (5, 4, 5)])
def test_impossible_layouts_are_refused(total: Any, window: Any, stride: Any) -> None:
    with pytest.raises(ValueError, match="frames"):
        plan(total, window, stride)
