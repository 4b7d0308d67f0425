"""What is kept: over a reload, the back button, and until it is deleted."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import APIRequestContext, Route, expect

from .conftest import Guarded, Job, made, ready, row, until

pytestmark = pytest.mark.slow


def test_a_reload_shows_the_same_edit(opened: Guarded, pair: Job) -> None:
    page = opened(f"/#job={pair['id']}")
    ready(page, 3)
    page.reload()
    ready(page, 3)
    expect(page.locator("#job-settings")).to_contain_text("seed 7 · guidance 2.5 · temperature 1 · top k 200 · demo")
    expect(page.locator("#clip-name")).to_have_text("clip.flac")
    expect(page.get_by_text("best fit")).to_have_count(1)
    expect(page.locator("#jobs [aria-current=true]")).to_contain_text("No Drums")


def test_the_back_button_goes_to_the_edit_before(opened: Guarded, pair: Job, split: Job) -> None:
    page = opened()
    row(page, pair).click()
    ready(page, 3)
    row(page, split).click()
    ready(page, 2)
    expect(page.locator("#job-sentence")).to_have_text("just the bass")
    page.go_back()
    ready(page, 3)
    page.go_back()
    expect(page.locator("#listen")).to_be_hidden()
    page.go_forward()
    ready(page, 3)


def test_what_plays_can_be_deleted_after_a_question(opened: Guarded, api: APIRequestContext, wav: Path) -> None:
    job = made(api, prompt="Music piece. Instruct: Only Piano.", n="1", seed="5", end="0.5")
    page = opened(f"/#job={job['id']}", tapped=True)
    ready(page, 2)
    page.keyboard.press("l")
    page.keyboard.press("Space")
    until(page, "window.taps[48000]?.blocks.some((block) => block.some(Boolean))")
    page.get_by_role("button", name="Delete: Only Piano").click()
    page.get_by_role("button", name="Keep").click()
    assert api.get(f"/jobs/{job['id']}").ok
    page.get_by_role("button", name="Delete: Only Piano").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#listen")).to_be_hidden()
    expect(page.locator("#jobs").get_by_text("Only Piano")).to_have_count(0)
    assert api.get(f"/jobs/{job['id']}").status == 404
    until(page, "window.taps[48000].blocks.slice(-20).every((block) => !block.some(Boolean))")


def test_older_edits_are_asked_for_page_by_page_and_stay(opened: Guarded, pair: Job) -> None:
    kept = [{**pair, "id": f"{n:016x}", "created": 1e9 + n} for n in range(30)][::-1]

    def answer(route: Route) -> None:
        before = parse_qs(urlsplit(route.request.url).query).get("before")
        first = [job["id"] for job in kept].index(before[0]) + 1 if before else 0
        page = kept[first : first + 20]
        route.fulfill(json={"jobs": page, "before": page[-1]["id"] if first + 20 < len(kept) else None})

    page = opened()
    page.route(re.compile(r"/jobs(\?.*)?$"), answer)
    look = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(look)
    rows, more = page.locator("#jobs li"), page.locator("#jobs-all")
    expect(more).to_have_text("Show older edits")
    for count in (20, 30):
        more.click()
        expect(rows).to_have_count(count)
    expect(more).to_be_hidden()
    kept.insert(0, {**pair, "id": "a" * 16, "created": 2e9})
    page.evaluate(look)
    expect(rows).to_have_count(31)
    ids = rows.locator("[data-focus^=open]").evaluate_all("rows => rows.map((row) => row.dataset.focus.slice(5))")
    assert ids == [job["id"] for job in kept]
