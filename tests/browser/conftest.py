"""One server with the demo, one browser, and pages that must not complain or ask any other host.

Fixtures live as long as this folder's tests, not as the run: a synchronous Playwright keeps an event loop running in
the thread of the tests, where `asyncio.run` of any other folder's test would fail.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import soundfile

from . import chromium, tap

if chromium.missing():
    collect_ignore_glob = ["test_*.py"]
else:
    from playwright.sync_api import (
        APIRequestContext,
        Browser,
        ConsoleMessage,
        FilePayload,
        Locator,
        Page,
        expect,
        sync_playwright,
    )

    expect.set_options(timeout=30_000)

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "model/demo/clip.flac"
SECONDS = 5.0 if os.environ.get("STUDIO_PICTURES") else 2.0
"""Of the clip that the shared edits are of: all of it for the pictures."""

STUDIO = """
import os, sys, time
from pathlib import Path
from model.cli import main
from model.studio.job_queue import JobQueue

gate, progress = Path(os.environ["STUDIO_GATE"]), JobQueue.progress

def held(queue, job, done, total):
    progress(queue, job, done, total)
    while gate.exists() and done >= int(gate.read_text()):
        queue.check(job)
        time.sleep(0.01)

JobQueue.progress = held
sys.exit(main(sys.argv[1:]))
"""
"""The command, with edits that wait at a step while a file with its number is there."""


@dataclass
class Server:
    """A studio in a process of its own."""

    url: str
    process: subprocess.Popen[str]
    gate: Path

    @classmethod
    def start(cls, folder: Path, *options: str) -> Server:
        """Start `instruct-musicgen studio` with the demo, and return when it listens."""
        command = [sys.executable, "-c", STUDIO, "studio", "--model", "demo", "--port", "0", "--no-open"]
        gate = folder / "gate"
        environment = os.environ | {"INSTRUCT_MUSICGEN_TUNING": "off", "HF_HUB_OFFLINE": "1", "STUDIO_GATE": str(gate)}
        process = subprocess.Popen(
            [*command, "--data", str(folder), *options], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        said = re.fullmatch(r"studio: (\S+)\n", process.stdout.readline())
        assert said, "the studio did not start"
        return cls(said[1].rstrip("/"), process, gate)

    @contextmanager
    def holding(self, step: int = 1) -> Iterator[None]:
        """Let edits go no further than to a step meanwhile, however fast the machine: to look on, or to cancel."""
        part = self.gate.with_suffix(".part")
        part.write_text(str(step))
        part.replace(self.gate)
        try:
            yield
        finally:
            self.gate.unlink()

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One studio for all tests; it also answers to a name that is not this machine's own."""
    found = Server.start(tmp_path_factory.mktemp("studio"), "--allow-host", "studio.test")
    yield found
    found.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium.executable(), args=chromium.FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="package")
def api(browser: Browser, server: Server) -> Iterator[APIRequestContext]:
    """Requests to the studio without a page."""
    context = browser.new_context(base_url=server.url)
    yield context.request
    context.close()


Job = dict[str, Any]


def made(api: APIRequestContext, **fields: str) -> Job:
    """Have the demo edit the clip, and return the finished job."""
    upload = FilePayload(name="clip.flac", mimeType="audio/flac", buffer=CLIP.read_bytes())
    answer = api.post("/jobs", multipart={"file": upload, "end": str(SECONDS), **fields})
    assert answer.status == 202, answer.text()
    job: Job = answer.json()
    api.get(f"/jobs/{job['id']}/events", timeout=400_000)  # ends when the job does
    job = api.get(f"/jobs/{job['id']}").json()
    assert job["state"] == "done", job
    return job


@pytest.fixture(scope="package")
def pair(api: APIRequestContext) -> Job:
    """Two candidates without the drums."""
    return made(api, prompt="Music piece. Instruct: No Drums.", n="2", seed="7", guidance="2.5", top_k="200")


@pytest.fixture(scope="package")
def split(api: APIRequestContext) -> Job:
    """The bass of the input itself, and the rest."""
    return made(api, prompt="just the bass", n="1", seed="3", from_input="true")


@pytest.fixture(scope="package")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of the clip as WAV."""
    samples, rate = soundfile.read(CLIP, stop=44100)
    path = tmp_path_factory.mktemp("clips") / "second.wav"
    soundfile.write(path, samples, rate)
    return path


@dataclass
class Guarded:
    """Opens pages, and keeps what they complain about and whom they ask."""

    browser: Browser
    server: Server
    problems: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Patterns of complaints that a test provokes."""

    def __call__(self, address: str = "/", url: str = "", tapped: bool = False, **options: Any) -> Page:
        """Open the page at an address, in a new context, and return when it is ready.

        `tapped`: what it plays is heard.
        """
        base = url or self.server.url
        context = self.browser.new_context(
            **{"viewport": {"width": 1180, "height": 900}, "bypass_csp": tapped, **options}
        )
        context.set_default_timeout(30_000)
        if tapped:
            tap.install(context)
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        host = urlsplit(base).netloc
        asked = ("http", "https", "ws", "wss")
        page.on(
            "request",
            lambda r: (
                self._outside(r.url) if urlsplit(r.url).scheme in asked and urlsplit(r.url).netloc != host else None
            ),
        )
        page.goto(base + address)
        expect(page.locator("#instruments .chip").first).to_be_visible()
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _outside(self, url: str) -> None:
        self.problems.append(f"outside: {url}")

    def finish(self) -> None:
        """Close the pages. Asserts that nothing but what was expected was complained about."""
        for context in self.browser.contexts:
            if context.pages:
                context.close()
        assert [p for p in self.problems if not any(re.search(e, p) for e in self.expected)] == []


Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, server: Server) -> Iterator[Guarded]:
    """A function that opens the page; at the end nothing may have been complained about."""
    guarded = Guarded(browser, server)
    yield guarded
    guarded.finish()


def until(page: Page, condition: str, seconds: float = 30) -> None:
    """Wait until an expression of the page is true. (wait_for_function is barred by the page's security policy.)"""
    page.evaluate(
        f"""async () => {{
          const end = performance.now() + {1000 * seconds};
          while (!({condition})) {{
            if (performance.now() > end) throw new Error("not in time");
            await new Promise((resolve) => setTimeout(resolve, 10));
          }}
        }}"""
    )


def row(page: Page, job: Job) -> Locator:
    """Return an edit's row in the history: seeds and sentences of other edits can read like its own."""
    return page.locator(f"#jobs [data-focus='open {job['id']}']")


def choose(page: Page, *names: str) -> None:
    """Choose chips by their words, below which their radio buttons lie out of sight."""
    for name in names:
        page.locator(".chip").filter(has=page.get_by_text(name, exact=True)).click()
        expect(page.get_by_role("radio", name=name, exact=True)).to_be_checked()


def ready(page: Page, tracks: int) -> None:
    """Wait until so many recordings can be heard."""
    expect(page.locator("#transport [data-key]:not([disabled])")).to_have_count(tracks)
    expect(page.locator("#job-progress")).to_be_hidden()
