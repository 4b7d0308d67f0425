"""What reaches the sound card, sample for sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import APIRequestContext, Page, expect

from . import tap
from .conftest import CLIP, Guarded, Job, choose, ready, until
from .tap import Samples

pytestmark = pytest.mark.slow

RATE = 48000
LIVE = 32000


def play(page: Page) -> None:
    """Play with the space bar, and wait until the tap hears."""
    page.keyboard.press("Space")
    until(page, f"window.taps[{RATE}]?.blocks.length > 20")


def hear(page: Page, seconds: float, rate: int = RATE) -> Samples:
    """Return what is heard from now on, in so many seconds of sound."""
    tap.forget(page, rate)
    until(page, f"window.taps[{rate}].blocks.length * 128 >= {seconds * rate}")
    return tap.heard(page, rate)


def looped(whole: Samples, frames: int = 0) -> Samples:
    """Return a recording twice, each time so many frames long."""
    return np.tile(np.pad(whole, (0, max(0, frames - len(whole)))), 2)


def sounding(samples: Samples) -> Samples:
    """Leave out the silence before the first sample, and the ramp after it."""
    first = int(np.argmax(samples != 0))
    return samples[first + RATE // 100 :]


def test_it_sounds_at_three_positions(opened: Guarded, pair: Job) -> None:
    page = opened(f"/#job={pair['id']}", tapped=True)
    ready(page, 3)
    page.keyboard.press("l")
    play(page)
    seconds = pair["input"]["seconds"]
    for part in (0.1, 0.4, 0.7):
        page.locator("#transport input[type=range]").fill(f"{part * seconds:.2f}")
        assert np.sqrt(np.mean(hear(page, 0.2) ** 2)) > 1e-3, part


def test_a_switch_while_it_plays_goes_on_at_the_next_sample(opened: Guarded, pair: Job) -> None:
    page = opened(f"/#job={pair['id']}", tapped=True)
    ready(page, 3)
    page.keyboard.press("m")
    page.keyboard.press("0")
    page.keyboard.press("l")
    play(page)
    tap.forget(page)
    until(page, f"window.taps[{RATE}].blocks.length * 128 >= {0.4 * RATE}")
    before = tap.mark(page)
    page.keyboard.press("2")
    after = tap.mark(page)
    until(page, f"window.taps[{RATE}].blocks.length * 128 >= {after + 0.4 * RATE}")
    page.keyboard.press("Space")
    stream = tap.heard(page)
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()

    first = tap.decoded(page, pair["input"]["file"])
    second = tap.decoded(page, pair["candidates"][1]["files"]["wav"])
    a, b = before - RATE // 5, after + RATE // 5
    frames = max(len(first), len(second))
    in_first, factor = tap.place(stream[a : a + 4096], looped(first, frames))
    in_second, other = tap.place(stream[b : b + 4096], looped(second, frames))
    assert (in_second - in_first - (b - a)) % frames == 0
    assert (factor, other) == pytest.approx((1, 1), abs=1e-4)


def test_a_loop_repeats_without_a_gap(opened: Guarded, pair: Job) -> None:
    page = opened(f"/#job={pair['id']}", tapped=True)
    ready(page, 3)
    page.keyboard.press("m")
    page.keyboard.press("0")
    page.keyboard.press("l")
    play(page)
    whole = tap.decoded(page, pair["input"]["file"])
    page.locator("#transport input[type=range]").fill(f"{len(whole) / RATE - 0.3:.2f}")
    stream = sounding(hear(page, 0.9))
    at, _ = tap.place(stream[RATE // 10 : RATE // 10 + 2048], whole)
    begins = RATE // 10 + len(whole) - at  # the loop's first sample, in the stream
    np.testing.assert_allclose(stream[begins : begins + 4096], whole[:4096], atol=1e-5)


def test_levels_are_matched_until_that_is_switched_off(opened: Guarded, split: Job) -> None:
    page = opened(f"/#job={split['id']}", tapped=True)
    ready(page, 2)
    page.keyboard.press("l")
    play(page)
    urls = {"0": split["input"]["file"], "1": split["candidates"][0]["files"]["wav"]}
    whole = {key: looped(tap.decoded(page, url)) for key, url in urls.items()}

    def played(key: str) -> float:
        page.keyboard.press(key)
        hear(page, 0.1)  # the ramp
        return tap.place(hear(page, 0.15)[:4096], whole[key])[1]

    rms = {key: page.evaluate(RMS, url) for key, url in urls.items()}
    levels = {key: played(key) * rms[key] for key in urls}
    assert levels["1"] == pytest.approx(levels["0"], rel=0.002)
    assert abs(rms["1"] / rms["0"] - 1) > 0.05, "they were equally loud already"
    page.keyboard.press("m")
    assert [played(key) for key in urls] == pytest.approx([1, 1], abs=1e-4)


RMS = """async (url) => {
  const bytes = await (await fetch(url)).arrayBuffer();
  const buffer = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(bytes);
  let squares = 0;
  for (let i = 0; i < buffer.numberOfChannels; i++) for (const x of buffer.getChannelData(i)) squares += x * x;
  return Math.sqrt(squares / buffer.length / buffer.numberOfChannels);
}"""


def test_the_residual_is_heard_and_left_again(opened: Guarded, split: Job) -> None:
    page = opened(f"/#job={split['id']}", tapped=True)
    ready(page, 2)
    for key in "1ml":
        page.keyboard.press(key)
    play(page)
    files = split["candidates"][0]["files"]
    whole = {name: looped(tap.decoded(page, files[name])) for name in ("wav", "residual")}
    for name in ("residual", "wav"):
        page.keyboard.press("r")
        hear(page, 0.1)
        assert tap.place(hear(page, 0.15)[:4096], whole[name])[1] == pytest.approx(1, abs=1e-4)


def test_the_links_are_of_what_is_shown(opened: Guarded, split: Job) -> None:
    page = opened(f"/#job={split['id']}")
    ready(page, 2)
    files = split["candidates"][0]["files"]
    wav, flac = (page.get_by_role("link", name=f"Candidate 1 as {name}", exact=True) for name in ("WAV", "FLAC"))
    rest = page.get_by_role("link", name="What Candidate 1 took out as WAV")
    for _ in range(2):
        expect(wav).to_have_attribute("href", files["wav"])
        expect(flac).to_have_attribute("href", files["flac"])
        expect(rest).to_have_count(0)
        page.get_by_role("button", name="What was taken out").click()
        expect(rest).to_have_attribute("href", files["residual"])
        expect(wav).to_have_count(0)
        expect(flac).to_have_count(0)
        page.get_by_role("button", name="What was taken out").click()


def test_an_edit_is_heard_while_it_is_made(opened: Guarded, api: APIRequestContext, tmp_path: Path) -> None:
    samples, rate = soundfile.read(CLIP)
    soundfile.write(tmp_path / "twice.wav", np.concatenate([samples, samples]), rate)
    page = opened(tapped=True)
    page.locator("#file").set_input_files(tmp_path / "twice.wav")
    choose(page, "No", "Drums")
    page.get_by_role("spinbutton", name="Candidates").fill("1")
    with opened.server.holding(step=300):
        page.get_by_role("button", name="Edit", exact=True).click()
        expect(page.locator("#job-live")).to_have_text("You can listen while it is made.")
        page.get_by_role("button", name="Play Candidate 1").click()
        until(page, f"window.taps[{LIVE}]?.blocks.filter((block) => block.some(Boolean)).length > 60", 60)
        expect(page.locator("#job-progress")).to_be_visible()  # it is still being made
    stream = tap.heard(page, LIVE)
    ready(page, 2)

    job = api.get("/jobs").json()["jobs"][0]
    whole = np.frombuffer(api.get(job["candidates"][0]["files"]["live"]).body(), np.float32)
    first = int(np.argmax(stream != 0))
    tap.place(stream[first + 512 : first + 4608], whole)
    expect(page.locator("#job-live")).to_be_hidden()
    assert page.evaluate("document.querySelectorAll('.track').length") == 2
