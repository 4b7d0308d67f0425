"""Whatever breaks on the way, and whenever, the page ends up with everything, and asks no more often than it must."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect

from .broken import ALL, BROKEN, PATIENCE, RECORDINGS, RESET, SILENT, Broken, running
from .conftest import Guarded, Job, ready, row, until
from .test_pictures import LAST_COLUMNS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("which", [(2,), ALL, (1, 2, 3, 4, 5, 6)], ids=str)
@pytest.mark.parametrize("how", ["is reset", "is answered 503"])
def test_a_recording_whose_request_fails_is_asked_for_again(
    opened: Guarded, pair: Job, how: str, which: tuple[int, ...]
) -> None:
    opened.expected.append(f"{RESET}|status of 503")
    page = opened()
    broken = Broken(page, RECORDINGS, BROKEN[how], which)
    row(page, pair).click()
    ready(page, 3)
    expect(page.locator("#job-error")).to_be_hidden()
    assert len(broken.asked) == 3 + len(which)


@pytest.mark.parametrize("which", [(2,), ALL], ids=str)
def test_a_recording_whose_request_hangs_is_given_up_and_asked_for_again(
    opened: Guarded, pair: Job, which: tuple[int, ...]
) -> None:
    page = opened()
    page.clock.install()
    broken = Broken(page, RECORDINGS, BROKEN["hangs"], which)
    row(page, pair).click()
    broken.wait(3)
    expect(page.locator("#transport [data-key]:not([disabled])")).to_have_count(3 - len(which))  # the others are there
    page.clock.fast_forward(PATIENCE)
    ready(page, 3)
    assert len(broken.asked) == 3 + len(which)


BODIES = """(how) => {
  const fetched = window.fetch;
  let first = true;
  window.fetch = async (path, options) => {
    const response = await fetched(path, options);
    if (!first || !path.includes("/audio/")) return response;
    first = false;
    const { value } = await response.body.getReader().read();
    const start = (body) => {
      body.enqueue(value.slice(0, 1000));
      if (how === "breaks off") setTimeout(() => body.error(new TypeError("network error")), 100);
      options.signal.addEventListener("abort", () => body.error(new DOMException("", "AbortError")));
    };
    return new Response(new ReadableStream({ start }), { headers: response.headers });
  };
}"""


@pytest.mark.parametrize("how", ["breaks off", "stalls"])
def test_a_recording_that_comes_in_part_is_asked_for_again(opened: Guarded, pair: Job, how: str) -> None:
    page = opened()
    page.clock.install()
    page.evaluate(BODIES, how)
    broken = Broken(page, RECORDINGS, Route.continue_)
    row(page, pair).click()
    if how == "stalls":
        expect(page.locator("#transport [data-key]:not([disabled])")).to_have_count(2)
        page.clock.fast_forward(PATIENCE)
    ready(page, 3)
    assert len(broken.asked) == 4


def test_a_connection_that_goes_while_recordings_come_is_taken_up_again(opened: Guarded, pair: Job) -> None:
    opened.expected.append("ERR_INTERNET_DISCONNECTED|ERR_NETWORK_CHANGED")
    page = opened()
    held: list[Route] = []
    broken = Broken(page, RECORDINGS, held.append, ALL)
    row(page, pair).click()
    broken.wait(3)
    page.context.set_offline(True)
    for route in held:
        route.continue_()
    expect(page.locator("#banner")).to_contain_text("The connection to the studio is lost")
    page.context.set_offline(False)
    ready(page, 3)
    expect(page.locator("#banner")).to_be_hidden()


def test_a_connection_that_goes_when_all_is_there_is_not_missed(opened: Guarded, pair: Job) -> None:
    page = opened(f"/#job={pair['id']}")
    ready(page, 3)
    broken = Broken(page, RECORDINGS, Route.continue_)
    page.context.set_offline(True)
    for key in ("2", "0", "1"):
        page.keyboard.press(key)
        expect(page.locator(".track.selected")).to_have_attribute("data-key", key)
    page.context.set_offline(False)
    page.evaluate("import('/page/connection.js').then(({ connection }) => connection.back())")
    expect(page.locator("#says")).to_have_text("Connected again.")
    ready(page, 3)
    assert broken.asked == []


def test_a_recording_that_never_comes_is_told_after_five_tries_and_asked_for_when_the_connection_is_back(
    opened: Guarded, pair: Job
) -> None:
    opened.expected.append(RESET)
    page = opened()
    held: list[Route] = []
    Broken(page, "**/audio/2.wav", held.append)
    broken = Broken(page, "**/audio/2.wav", BROKEN["is reset"], (1, 2, 3, 4, 5))
    row(page, pair).click()
    broken.wait(6)  # it answers again, so the recording is asked for once more
    expect(page.locator("#job-error")).to_have_text("The studio does not answer. Is it still running?")
    held[0].continue_()
    ready(page, 3)
    expect(page.locator("#job-error")).to_be_hidden()
    assert len(broken.asked) == 6


def test_a_recording_that_is_gone_is_told_and_asked_for_once(opened: Guarded, pair: Job) -> None:
    opened.expected.append("status of 404")
    page = opened()
    error = {"message": "2.wav is gone from the disk", "type": "not_found", "param": None}
    broken = Broken(page, "**/audio/2.wav", lambda route: route.fulfill(status=404, json={"error": error}))
    row(page, pair).click()
    expect(page.locator("#job-error")).to_have_text("2.wav is gone from the disk")
    ready(page, 2)
    page.wait_for_timeout(1500)
    assert len(broken.asked) == 1


@pytest.mark.parametrize("how", BROKEN)
def test_events_that_break_off_are_taken_up_again(opened: Guarded, pair: Job, how: str) -> None:
    opened.expected.append(f"{RESET}|status of 503")
    page = opened()
    page.clock.install()
    running(page, pair)
    broken = Broken(page, "**/events", BROKEN[how])
    row(page, pair).click()
    broken.wait(1)
    if how == "hangs":
        expect(page.locator("#job-progress")).to_be_visible()
        page.clock.fast_forward(SILENT)
    ready(page, 3)


def test_an_edit_is_followed_on_when_its_state_cannot_be_had_for_a_while(opened: Guarded, pair: Job) -> None:
    opened.expected.append(f"{RESET}|status of 503|status of 500")
    page = opened()
    page.clock.install()
    running(page, pair)
    events = Broken(page, "**/events", BROKEN["is reset"])
    row(page, pair).click()
    state = Broken(page, f"**/jobs/{pair['id']}", lambda route: route.fulfill(status=500, body="a fault"))
    events.wait(1)
    state.wait(1)
    page.clock.fast_forward(6000)
    ready(page, 3)


@pytest.mark.parametrize("how", ["is reset", "is answered 503"])
def test_sound_that_breaks_off_while_it_is_made_is_taken_up_again(opened: Guarded, pair: Job, how: str) -> None:
    opened.expected.append(f"{RESET}|status of 503|willReadFrequently")  # the last: of this test's own looks
    page = opened()
    running(page, pair, times=10_000)
    Broken(page, "**/events", BROKEN["is reset"], tuple(range(10_000)))
    broken = Broken(page, "**/audio/1.f32", BROKEN[how])
    row(page, pair).click()
    broken.wait(2)
    until(page, LAST_COLUMNS.replace(".tracks", '.track[data-key="1"]'))


def test_a_page_that_nobody_sees_leaves_its_streams_until_it_is_seen(opened: Guarded, pair: Job) -> None:
    """A browser opens six connections to a host, for all of its pages together."""
    opened.expected.append(RESET)
    page = opened()
    running(page, pair, times=10_000)
    Broken(page, "**/events", BROKEN["is reset"], tuple(range(10_000)))
    broken = Broken(page, "**/audio/1.f32", BROKEN["hangs"])
    row(page, pair).click()
    broken.wait(1)
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/1.f32")):
        page.evaluate(hide, True)
    page.wait_for_timeout(2500)
    assert len(broken.asked) == 1
    page.evaluate(hide, False)
    broken.wait(2)


NO_MODULE = """() => {
  const { addModule } = AudioWorklet.prototype;
  AudioWorklet.prototype.addModule = function (url) {
    if (!String(url).endsWith("/worklet.js")) return addModule.call(this, url);
    AudioWorklet.prototype.addModule = addModule;
    return Promise.reject(new DOMException("Unable to load a worklet's module.", "AbortError"));
  };
}"""


def test_a_player_that_cannot_be_fetched_is_told_and_fetched_at_the_next_try(opened: Guarded, pair: Job) -> None:
    opened.expected.append(RESET)
    page = opened(tapped=True)
    running(page, pair, times=10_000)
    Broken(page, "**/events", BROKEN["hangs"], tuple(range(10_000)))
    page.evaluate(NO_MODULE)
    row(page, pair).click()
    page.get_by_role("button", name="Play Candidate 1").click()
    expect(page.locator("#job-error")).to_contain_text("could not be fetched. Press Play to try again.")
    page.get_by_role("button", name="Play Candidate 1").click()
    expect(page.locator("#job-error")).to_be_hidden()
    until(page, "window.taps[32000]?.blocks.some((block) => block.some(Boolean))")


def test_a_player_that_could_not_be_fetched_matters_no_more_when_the_edit_is_done(opened: Guarded, pair: Job) -> None:
    opened.expected.append("status of 404")
    page = opened()
    page.clock.install()
    running(page, pair)
    Broken(page, "**/events", BROKEN["hangs"])
    page.evaluate(NO_MODULE)
    row(page, pair).click()
    page.get_by_role("button", name="Play Candidate 1").click()
    expect(page.locator("#job-error")).to_contain_text("could not be fetched")
    error = {"message": "2.wav is gone from the disk", "type": "not_found", "param": None}
    Broken(page, "**/audio/2.wav", lambda route: route.fulfill(status=404, json={"error": error}))
    page.clock.fast_forward(SILENT)
    expect(page.locator("#job-error")).to_have_text("2.wav is gone from the disk")
    page.evaluate("import('/page/connection.js').then(({ connection }) => connection.back())")
    ready(page, 3)
    expect(page.locator("#job-error")).to_be_hidden()


@pytest.mark.parametrize("address", ["**/v1/models", re.compile("/jobs$"), re.compile(r"/jobs/\w+$")], ids=str)
def test_a_page_that_begins_without_a_connection_is_whole_when_it_is_there(
    opened: Guarded, pair: Job, address: str | re.Pattern[str]
) -> None:
    opened.expected.append(RESET)
    page = opened(f"/#job={pair['id']}")
    held: list[Route] = []
    Broken(page, address, BROKEN["is reset"])
    asked = Broken(page, "**/v1/models", held.append, (2,))  # whether it answers again
    page.reload()
    asked.wait(2)
    expect(page.locator("#banner")).to_contain_text("The connection to the studio is lost")
    held[0].continue_()
    ready(page, 3)
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#clip-name")).to_have_text("clip.flac")
    expect(row(page, pair)).to_be_visible()


def test_a_question_for_the_server_that_hangs_is_asked_again(opened: Guarded, pair: Job) -> None:
    opened.expected.append(RESET)
    page = opened()
    page.clock.install()
    Broken(page, RECORDINGS, BROKEN["is reset"])
    asked = Broken(page, "**/v1/models", BROKEN["hangs"])
    row(page, pair).click()
    asked.wait(1)
    page.clock.fast_forward(5100)
    ready(page, 3)
    expect(page.locator("#banner")).to_be_hidden()


def test_a_late_list_of_edits_does_not_take_the_place_of_a_later_one(opened: Guarded, pair: Job) -> None:
    page = opened()
    held: list[Route] = []
    look = "document.dispatchEvent(new Event('visibilitychange'))"
    broken = Broken(page, re.compile("/jobs$"), held.append)
    page.evaluate(look)
    broken.wait(1)
    with page.expect_response("**/jobs"):
        page.evaluate(look)
    held[0].fulfill(json={"jobs": []})
    page.wait_for_timeout(300)
    expect(row(page, pair)).to_be_visible()
