"""What goes wrong is said in plain words, where it belongs, and nothing else breaks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import APIRequestContext, Route, expect

from .conftest import Guarded, Job, Server, ready, row, until
from .test_editing import drop


def test_a_text_file_is_refused_and_the_clip_stays(opened: Guarded) -> None:
    page = opened()
    drop(page, "notes.txt", b"not music")
    expect(page.locator("#clip-error")).to_contain_text("notes.txt is not audio that can be read")
    expect(page.locator("#drop")).to_be_visible()
    page.get_by_role("button", name="Use the example").click()
    expect(page.locator("#clip-error")).to_be_hidden()
    expect(page.locator("#clip-name")).to_have_text("clip.flac")
    drop(page, "empty.wav", b"")
    expect(page.locator("#clip-error")).to_have_text("empty.wav is empty.")
    expect(page.locator("#clip-name")).to_have_text("clip.flac")


@pytest.mark.slow
def test_edit_without_a_clip_or_a_sentence_says_what_is_missing(opened: Guarded) -> None:
    page = opened()
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#clip-error")).to_contain_text("Choose a clip first")
    page.get_by_role("button", name="Use the example").click()
    expect(page.locator("#clip-view")).to_be_visible()
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#prompt-error")).to_contain_text("write what should change")
    expect(page.get_by_label("Or in your own words")).to_be_focused()


@pytest.mark.slow
def test_that_a_clip_is_missing_is_said_no_more_when_it_has_come(opened: Guarded) -> None:
    page = opened()
    held: list[Route] = []
    page.route("**/example.flac", lambda route: held.append(route))
    page.get_by_role("button", name="Use the example").click()
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#clip-error")).to_contain_text("Choose a clip first")
    held[0].continue_()
    expect(page.locator("#clip-view")).to_be_visible()
    expect(page.locator("#clip-error")).to_be_hidden()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value", "place"),
    [("seed", "-1", "settings"), ("temperature", "-2", "settings"), ("top_k", "-3", "settings"), ("n", "99", "n")],
)
def test_an_error_of_the_server_is_shown_as_it_is_beside_its_field(
    opened: Guarded, api: APIRequestContext, field: str, value: str, place: str
) -> None:
    opened.expected.append("status of 400")
    page = opened()
    page.get_by_role("button", name="Use the example").click()
    expect(page.locator("#clip-view")).to_be_visible()
    page.get_by_label("Or in your own words").fill("only drums")
    page.locator("#settings summary").click()
    page.locator(f"#{field}").fill(value)
    with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
        page.get_by_role("button", name="Edit", exact=True).click()
    assert answered.value.status == 400
    said = answered.value.json()["error"]
    assert said["param"] == field
    expect(page.locator(f"#{place}-error")).to_have_text(said["message"])
    expect(page.locator(f"#{field}")).to_be_focused()


@pytest.mark.slow
def test_plain_http_elsewhere_has_no_microphone_and_no_live_sound_and_says_so(
    opened: Guarded, server: Server, split: Job
) -> None:
    opened.expected.append("Cross-Origin-Opener-Policy header has been ignored")  # as it must be on plain http
    elsewhere = re.sub(r"127\.0\.0\.1", "studio.test", server.url)
    page = opened(f"/#job={split['id']}", url=elsewhere)
    ready(page, 2)
    assert page.evaluate("isSecureContext") is False
    page.get_by_role("button", name="Another clip").click()
    expect(page.get_by_role("button", name="Record")).to_be_disabled()
    expect(page.locator("#drop-hint")).to_contain_text("Browsers give the microphone to https")
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.locator("#transport .time")).not_to_contain_text("0:00.0 /")
    page.get_by_role("button", name="Use the example").click()
    expect(page.locator("#clip-view")).to_be_visible()
    page.get_by_label("Or in your own words").fill("only drums")
    page.get_by_role("spinbutton", name="Candidates").fill("8")
    with server.holding(step=100):
        page.get_by_role("button", name="Edit", exact=True).click()
        expect(page.locator("#job-live")).to_contain_text("Browsers let a page play unfinished sound on https")
        page.get_by_role("button", name="Cancel", exact=True).click()
        expect(page.locator("#job-error")).to_have_text("Canceled.")


@pytest.mark.slow
def test_a_refused_microphone_is_said(opened: Guarded) -> None:
    page = opened()
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    page.get_by_role("button", name="Record").click()
    blocked = "The browser blocks the microphone for this page; allow it in the site settings."
    expect(page.locator("#clip-error")).to_have_text(blocked)
    expect(page.get_by_role("button", name="Record")).to_be_enabled()


@pytest.mark.slow
def test_a_recording_that_cannot_begin_gives_the_microphone_back(opened: Guarded) -> None:
    page = opened()
    page.evaluate(
        """() => {
          const own = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          window.tracks = [];
          navigator.mediaDevices.getUserMedia = async (what) => {
            const stream = await own(what);
            tracks.push(...stream.getTracks());
            return stream;
          };
          window.contexts = [];
          window.AudioContext = class extends AudioContext {
            constructor() {
              super();
              contexts.push(this);
            }
          };
          const load = Worklet.prototype.addModule;
          Worklet.prototype.addModule = function () {
            Worklet.prototype.addModule = load;
            return Promise.reject(new DOMException("it cannot be loaded", "AbortError"));
          };
        }"""
    )
    page.get_by_role("button", name="Record").click()
    expect(page.locator("#clip-error")).to_have_text("Recording cannot begin: it cannot be loaded")
    until(page, "contexts.length === 1 && contexts[0].state === 'closed'")
    assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended"]
    expect(page.locator("#recording")).to_be_hidden()
    page.get_by_role("button", name="Record").click()
    expect(page.locator("#recording-time")).not_to_have_text("0:00.0")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#clip-name")).to_have_text("recording.wav")
    assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended", "ended"]


@pytest.mark.slow
def test_a_lost_connection_is_said_and_taken_up_again(opened: Guarded, pair: Job) -> None:
    opened.expected.append("ERR_INTERNET_DISCONNECTED|ERR_NETWORK_CHANGED")
    page = opened()
    page.context.set_offline(True)
    row(page, pair).click()
    expect(page.locator("#banner")).to_contain_text("The connection to the studio is lost. Trying again")
    page.context.set_offline(False)
    expect(page.locator("#banner")).to_be_hidden()
    ready(page, 3)


@pytest.mark.slow
def test_an_edit_that_is_no_more_is_said(opened: Guarded) -> None:
    opened.expected.append("status of 404")
    page = opened("/#job=0123456789abcdef")
    expect(page.locator("#history-error")).to_contain_text("0123456789abcdef")
    expect(page.locator("#listen")).to_be_hidden()


@pytest.mark.slow
def test_a_token_in_the_address_opens_the_studio_and_leaves_the_address(opened: Guarded, tmp_path: Path) -> None:
    token = "a-token-of-twenty-letters"
    guarded = Server.start(tmp_path, "--token", token)
    url = guarded.url.partition("/#")[0]
    try:
        page = opened(f"/#token={token}", url=url)
        assert page.url == f"{url}/"
        expect(page.locator("#model")).to_have_value("demo")
        page.reload()
        expect(page.locator("#model")).to_have_value("demo")

        opened.expected.append("status of 401")
        page.context.clear_cookies()
        page.reload()
        page.get_by_label("Token").fill("wrong")
        with page.expect_response("**/jobs"):  # a look at the history, refused while somebody types
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.get_by_label("Token")).to_have_value("wrong")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#banner")).to_contain_text("the token is wrong")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator("#model")).to_have_value("demo")
        page.close()
    finally:
        guarded.stop()
