"""Pictures of the page. `STUDIO_PICTURES=docs/studio pytest tests/browser/test_pictures.py` makes those of the docs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import Guarded, Job, choose, ready, until

pytestmark = pytest.mark.slow

DESK: dict[str, Any] = {"viewport": {"width": 1120, "height": 1700}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 780}, "device_scale_factor": 2, "has_touch": True}


@pytest.mark.parametrize(
    ("name", "options", "at"),
    [
        ("light", {**DESK, "color_scheme": "light"}, "body"),
        ("dark", {**DESK, "color_scheme": "dark"}, "body"),
        ("phone", {**PHONE, "color_scheme": "light"}, "#listen"),
    ],
)
def test_a_picture_shows_the_page(
    opened: Guarded, pair: Job, tmp_path: Path, name: str, options: dict[str, Any], at: str
) -> None:
    from matplotlib.image import imread

    opened.expected.append("willReadFrequently")  # of LAST_COLUMNS, where it looks more than once
    page = opened(f"/#job={pair['id']}", reduced_motion="reduce", **options)
    ready(page, 3)
    choose(page, "No", "Drums")
    page.locator("#transport input[type=range]").fill("1.2")
    painted = "[...document.querySelectorAll('.tracks canvas')].every((c) => c.width > 300 || c.className === 'wave')"
    until(page, f"document.querySelectorAll('.tracks canvas').length === 6 && {painted}")
    until(page, LAST_COLUMNS)
    page.locator(at).evaluate("(element) => element.scrollIntoView()")
    path = Path(os.environ.get("STUDIO_PICTURES", tmp_path), f"{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)
    pixels = imread(path)[..., :3]
    dark = name == "dark"
    assert (np.median(pixels) < 0.3) == dark
    assert len(np.unique((pixels * 15).astype(int) @ [1, 16, 256])) > 40, "it is blank"


LAST_COLUMNS = """[...document.querySelectorAll('.tracks .spectrum')].every((canvas) => {
  const column = canvas.getContext('2d').getImageData(canvas.width - 1, 0, 1, canvas.height).data;
  return column.some(Boolean);
})"""
