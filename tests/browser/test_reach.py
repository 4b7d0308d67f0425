"""Everybody can use it: without a mouse, on a phone, in the dark, with a screen reader."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from .conftest import Guarded, Job, choose, ready

pytestmark = pytest.mark.slow


def violations(page: Page) -> list[str]:
    """What axe-core finds, one line each."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['help']} {[node['target'] for node in each['nodes']]}" for each in found]


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(150):
        if page.locator(selector).evaluate("(element) => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {selector}")


def test_everything_is_done_without_a_mouse(opened: Guarded, pair: Job) -> None:
    page = opened()
    tab_to(page, "#example")
    page.keyboard.press("Enter")
    expect(page.locator("#clip-name")).to_have_text("clip.flac")
    tab_to(page, "input[name=verb][value=Only]")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="No", exact=True)).to_be_checked()
    tab_to(page, "input[name=instrument][value=Drums]")
    page.keyboard.press("Space")
    expect(page.get_by_role("radio", name="Drums")).to_be_checked()
    tab_to(page, "#fewer")
    page.keyboard.press("Enter")
    expect(page.get_by_role("spinbutton", name="Candidates")).to_have_value("1")
    tab_to(page, "#more")
    for _ in range(7):
        page.keyboard.press("Enter")
    expect(page.get_by_role("spinbutton", name="Candidates")).to_have_value("8")
    tab_to(page, "#edit")
    with opened.server.holding():
        page.keyboard.press("Enter")
        expect(page.locator("#job-progress")).to_be_visible()
        tab_to(page, "#job-cancel")
        page.keyboard.press("Enter")
        expect(page.locator("#job-error")).to_have_text("Canceled.")

    row = f"#jobs [data-focus='open {pair['id']}']"
    tab_to(page, row)
    page.keyboard.press("Enter")
    ready(page, 3)
    position = page.locator("#transport .time")
    page.keyboard.press("1")
    expect(page.locator(".track.selected")).to_have_attribute("data-key", "1")
    page.keyboard.press("0")
    expect(page.locator(".track.selected")).to_have_attribute("data-key", "0")
    page.keyboard.press("9")
    expect(page.locator("#says")).to_have_text("There is no candidate 9.")
    page.keyboard.press("ArrowRight")
    expect(position).to_contain_text("0:01.0 /")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    page.keyboard.press("Space")
    page.keyboard.press("Home")
    expect(position).to_contain_text("0:00.0 /")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_keys_that_are_typed_do_not_play(opened: Guarded, pair: Job) -> None:
    page = opened(f"/#job={pair['id']}")
    ready(page, 3)
    page.keyboard.press("e")
    page.keyboard.type("0 no rm l?")
    expect(page.get_by_label("Or in your own words")).to_have_value("0 no rm l?")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()


@pytest.mark.parametrize("width", [360, 600, 820])
def test_nothing_scrolls_sideways(opened: Guarded, split: Job, width: int) -> None:
    page = opened(f"/#job={split['id']}", viewport={"width": width, "height": 740})
    ready(page, 2)
    page.locator("#settings summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = page.evaluate(
        "(width) => [...document.querySelectorAll('main button, main a, main input:not([hidden])')]"
        ".filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > width).map((e) => e.outerHTML)",
        width,
    )
    assert outside == []


def test_light_and_dark_follow_the_system_until_one_is_chosen(opened: Guarded) -> None:
    page = opened(color_scheme="dark")

    def is_dark() -> bool:
        color = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        return sum(color) < 200

    assert is_dark()
    page.emulate_media(color_scheme="light")
    assert not is_dark()
    page.get_by_role("button", name="Switch between light and dark").click()
    assert is_dark()
    page.reload()
    assert is_dark()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(opened: Guarded, split: Job, scheme: str) -> None:
    page = opened(color_scheme=scheme, reduced_motion="reduce")
    assert violations(page) == []
    page.goto(f"{opened.server.url}/#job={split['id']}")
    page.reload()
    ready(page, 2)
    page.locator("#settings summary").click()
    choose(page, "No", "Piano")
    page.get_by_role("button", name="Delete: just the bass").click()
    page.keyboard.press("r")
    assert violations(page) == []
    page.get_by_role("button", name="Keys and help").click()
    assert violations(page) == []
