"""Laws of the window plan."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.windows import plan


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


@pytest.mark.parametrize(("total", "window", "stride"), [(0, 4, 2), (5, 0, 1), (5, 4, 0), (5, 4, 5)])
def test_impossible_layouts_are_refused(total: Any, window: Any, stride: Any) -> None:
    with pytest.raises(ValueError, match="frames"):
        plan(total, window, stride)
