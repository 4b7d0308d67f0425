"""From a clip to an edit, and from an edit to the next."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import APIRequestContext, Page, Route, expect

from .conftest import CLIP, Guarded, Job, choose, ready, row


def newest(api: APIRequestContext) -> Job:
    job: Job = api.get("/jobs").json()["jobs"][0]
    return job


def cancel(page: Page) -> None:
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#job-error")).to_have_text("Canceled.")


def test_an_uploaded_clip_becomes_an_edit_whose_downloads_are_the_apis_bytes(
    opened: Guarded, api: APIRequestContext, wav: Path
) -> None:
    page = opened()
    page.locator("#file").set_input_files(wav)
    expect(page.locator("#clip-name")).to_have_text("second.wav")
    choose(page, "No", "Drums")
    expect(page.locator("#sentence")).to_contain_text("Music piece. Instruct: No Drums.")
    page.get_by_role("spinbutton", name="Candidates").fill("1")
    page.get_by_text("Settings", exact=False).first.click()
    page.get_by_label("Seed").fill("11")
    page.get_by_role("button", name="Edit", exact=True).click()
    ready(page, 2)

    job = newest(api)
    assert (job["prompt"], job["settings"]["seed"], job["settings"]["n"]) == ("Music piece. Instruct: No Drums.", 11, 1)
    assert job["input"]["name"] == "second.wav"
    expect(page.locator("#job-sentence")).to_have_text("No Drums")
    files = job["candidates"][0]["files"]
    for name in ("WAV", "FLAC"):
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Candidate 1 as {name}").click()
        assert Path(download.value.path()).read_bytes() == api.get(files[name.lower()]).body()
    with page.expect_download() as download:
        page.get_by_role("link", name="All as ZIP").click()
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        contents = [archive.read(name) for name in archive.namelist() if name.endswith(".wav")]
    assert api.get(files["wav"]).body() in contents


@pytest.mark.slow
def test_a_part_of_the_example_is_edited_and_a_cancel_stops_it(opened: Guarded, api: APIRequestContext) -> None:
    page = opened()
    page.get_by_role("button", name="Use the example").click()
    expect(page.locator("#clip-name")).to_have_text("clip.flac")
    page.get_by_role("slider", name="Start of the region").focus()
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_role("slider", name="End of the region").focus()
    for key in ("Shift+ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator("#clip-info")).to_contain_text("2.9 s, 0:01.0 to 0:03.9 of 0:05.0")
    page.get_by_label("Or in your own words").fill("take the drums out")
    expect(page.get_by_role("radio", checked=True)).to_have_count(0)
    page.get_by_role("spinbutton", name="Candidates").fill("8")
    with opened.server.holding():
        page.get_by_role("button", name="Edit", exact=True).dblclick()
        expect(page.locator("#job-progress")).to_be_visible()
        cancel(page)

    job = newest(api)
    assert job["state"] == "canceled" and job["prompt"] == "take the drums out"
    assert (job["input"]["start"], job["input"]["end"]) == pytest.approx((1.0, 3.9), abs=0.01)
    same = [other for other in api.get("/jobs").json()["jobs"] if other["prompt"] == "take the drums out"]
    assert len(same) == 1, "a double click asked twice"


@pytest.mark.slow
@pytest.mark.parametrize("how", ("moved", "typed"))
def test_a_start_that_is_changed_leaves_the_end_of_any_clip(
    opened: Guarded, api: APIRequestContext, tmp_path: Path, how: str
) -> None:
    """Its end has more digits than are shown and sent, and rounded to them is after the last sample."""
    page, frames = opened(), 44_100 * 3 + 27
    samples, rate = soundfile.read(CLIP, stop=frames)
    assert (rate, len(samples)) == (44_100, frames) and round(frames / rate, 3) > frames / rate
    soundfile.write(tmp_path / "odd.wav", samples, rate)
    page.locator("#file").set_input_files(tmp_path / "odd.wav")
    if how == "moved":
        page.get_by_role("slider", name="Start of the region").focus()
        page.keyboard.press("Shift+ArrowRight")
    else:
        page.locator("#from").fill("1.0")
        page.locator("#from").press("Tab")
    expect(page.locator("#clip-info")).to_contain_text("2.0 s, 0:01.0 to 0:03.0 of 0:03.0")
    page.get_by_label("Or in your own words").fill("no bass at all")
    with opened.server.holding():
        page.get_by_role("button", name="Edit", exact=True).click()
        expect(page.locator("#job-progress")).to_be_visible()
        cancel(page)
    found = newest(api)["input"]
    assert (found["name"], found["start"]) == ("odd.wav", pytest.approx(1.0))
    assert found["end"] == pytest.approx(frames / rate, abs=0.5 / rate)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rate"), (("wav", 44_100), ("wav", 96_000), ("flac", 22_050), ("ogg", 48_000)))
def test_the_region_is_what_the_studio_takes_of_so_many_channels_at_such_a_rate(
    opened: Guarded, tmp_path: Path, kind: str, rate: int
) -> None:
    """The page's browser decodes all of them to 48 kHz."""
    page = opened()

    def small(route: Route) -> None:
        answer = route.fetch()
        found = answer.json()
        found["limits"] |= {"clip_samples": 2 * rate * 3 // 2}
        route.fulfill(response=answer, json=found)

    page.route("**/v1/models", small)
    page.reload()
    expect(page.locator("#instruments .chip").first).to_be_visible()
    soundfile.write(tmp_path / f"long.{kind}", np.tile(soundfile.read(CLIP)[0][:rate, :1], (4, 2)), rate)
    page.locator("#file").set_input_files(tmp_path / f"long.{kind}")
    expect(page.locator("#clip-info")).to_contain_text("1.5 s, 0:00.0 to 0:01.5 of 0:04.0 · at most 1 second at a time")


@pytest.mark.slow
def test_a_drag_over_the_waveform_chooses_a_region_and_a_click_goes_there(opened: Guarded) -> None:
    page = opened()
    page.get_by_role("button", name="Use the example").click()
    picture = page.locator("#region .picture")
    expect(picture).to_be_visible()
    box = picture.bounding_box()
    assert box
    y = box["y"] + box["height"] / 3
    page.mouse.move(box["x"] + 0.2 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], y, steps=4)
    page.mouse.up()
    expect(page.locator("#clip-info")).to_contain_text("2.0 s, 0:01.0 to 0:03.0")
    page.mouse.click(box["x"] + 0.4 * box["width"], y)
    expect(page.locator("#clip-info")).to_contain_text("2.0 s, 0:01.0 to 0:03.0")
    page.get_by_role("button", name="Whole clip").click()
    expect(page.locator("#clip-info")).to_contain_text("5.0 s, all of it")


@pytest.mark.slow
def test_an_edit_that_waits_says_its_place_and_for_how_long(opened: Guarded, pair: Job) -> None:
    page = opened()
    waits = {**pair, "state": "queued", "candidates": [], "queue_position": 2, "seconds_left": 80.4}
    page.route(f"**/jobs/{pair['id']}", lambda route: route.fulfill(json=waits))
    page.route("**/events", lambda route: None)
    row(page, pair).click()
    expect(page.locator("#job-state")).to_have_text("Number 3 in line · 80 s left")


@pytest.mark.slow
def test_an_edit_is_the_next_input(opened: Guarded, api: APIRequestContext, pair: Job) -> None:
    page = opened(f"/#job={pair['id']}")
    ready(page, 3)
    page.get_by_role("button", name="Edit candidate 2").click()
    expect(page.locator("#clip-name")).to_have_text("No Drums (2) of clip.flac")
    choose(page, "Only", "Bass")
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator("#job-sentence")).to_have_text("Only Bass")
    job = newest(api)
    assert api.post(f"/jobs/{job['id']}/cancel").ok
    assert job["input"]["source"] == {"job": pair["id"], "candidate": 2}


@pytest.mark.slow
def test_use_these_again_fills_in_clip_sentence_and_settings(opened: Guarded, pair: Job) -> None:
    page = opened(f"/#job={pair['id']}")
    ready(page, 3)
    page.get_by_role("button", name="Use these again").first.click()
    expect(page.locator("#clip-name")).to_have_text("clip.flac")
    expect(page.get_by_role("radio", name="No", exact=True)).to_be_checked()
    expect(page.get_by_role("radio", name="Drums")).to_be_checked()
    page.get_by_text("Settings", exact=False).first.click()
    for label, value in {"Candidates": "2", "Seed": "7", "Guidance": "2.5", "Top k": "200"}.items():
        expect(page.get_by_role("spinbutton", name=label)).to_have_value(value)


@pytest.mark.slow
def test_settings_of_a_model_that_is_not_served_are_filled_in_and_that_is_said(opened: Guarded, pair: Job) -> None:
    page = opened()
    gone = {**pair, "model": "band (not served)", "prompt": "let it swing"}
    page.route("**/jobs", lambda route: route.fulfill(json={"jobs": [gone], "before": None}))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_role("button", name="Use these again: let it swing").click()
    expect(page.locator("#edit-error")).to_have_text("The model of that edit, band, is not served now.")
    expect(page.locator("#model")).to_have_value("demo")
    page.locator("#settings summary").click()
    expect(page.get_by_role("spinbutton", name="Seed")).to_have_value("7")
    choose(page, "Bass")
    expect(page.locator("#edit-error")).to_be_hidden()


@pytest.mark.slow
def test_a_recording_becomes_the_clip(opened: Guarded) -> None:
    page = opened()
    page.get_by_role("button", name="Record").click()
    expect(page.locator("#recording-time")).not_to_have_text("0:00.0")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#clip-name")).to_have_text("recording.wav")
    expect(page.locator("#clip-view .picture")).to_be_visible()


@pytest.mark.slow
def test_a_dropped_file_becomes_the_clip(opened: Guarded) -> None:
    page = opened()
    drop(page, "dropped.flac", CLIP.read_bytes())
    expect(page.locator("#clip-name")).to_have_text("dropped.flac")


def drop(page: Page, name: str, content: bytes) -> None:
    """Let a file go over the page."""
    page.evaluate(
        """([name, content]) => {
          const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([bytes], name));
          for (const type of ["dragover", "drop"]) {
            document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
          }
        }""",
        [name, base64.b64encode(content).decode()],
    )
