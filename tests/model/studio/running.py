"""A studio that runs in a thread of the tests' own process, and what a client needs to talk to it."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from model.studio.job_queue import JobQueue
from model.studio.jobs import Job
from model.studio.limits import Limits
from model.studio.loaded_models import LoadedModels
from model.studio.store import Store
from model.studio.web import server
from model.studio.web.app import app
from model.studio.web.requests import Studio
from model.studio.web.watchers import Watchers

PATIENCE = 60.0


class Gated(JobQueue):
    """A queue whose jobs wait at a step while its gate is shut."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.gate = threading.Event()
        self.gate.set()
        self.at, self.waiting = 1, threading.Event()

    def progress(self, job: Job, done: int, total: int) -> None:
        """Wait at step `at`, so that a job runs for as long as a test likes."""
        super().progress(job, done, total)
        if done == self.at:
            while not self.gate.wait(0.01):
                self.waiting.set()
                self.check(job)


class Running:
    """The studio's address, its queue, and requests to it."""

    def __init__(self, url: str, studio: Studio, queue: Gated, thread: threading.Thread) -> None:
        self.url, self.studio, self.queue, self.thread = url, studio, queue, thread
        self.port = int(url.rpartition(":")[2])
        # An idle connection is left before any of the studios here closes it: both at once would reset a request.
        self.client = httpx.Client(base_url=url, timeout=PATIENCE, limits=httpx.Limits(keepalive_expiry=0.2))

    def post(
        self, clip: bytes | None = None, path: str = "/jobs", name: str = "clip.wav", **fields: Any
    ) -> httpx.Response:
        """Send a form."""
        parts: dict[str, Any] = {key: (None, str(value)) for key, value in fields.items()}
        if clip is not None:
            parts["file"] = (name, clip)
        return self.client.post(path, files=parts)

    def job(self, clip: bytes | None = None, **fields: Any) -> dict[str, Any]:
        """Queue a job."""
        answer = self.post(clip, **{"prompt": "only drums", **fields})
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        assert answer.headers["location"] == f"/jobs/{found['id']}"
        return found

    def get(self, job: str) -> dict[str, Any]:
        """Show a job."""
        found: dict[str, Any] = self.client.get(f"/jobs/{job}").raise_for_status().json()
        return found

    def events(self, job: str) -> list[dict[str, Any]]:
        """Hear all of a job's course, to its end."""
        with self.client.stream("GET", f"/jobs/{job}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            data = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
        return [json.loads(each) for each in data]

    def done(self, job: dict[str, Any] | str) -> dict[str, Any]:
        """Wait until a job is done."""
        found = self.events(job if isinstance(job, str) else job["id"])[-1]
        assert found["state"] == "done", found
        return found

    def bytes(self, path: str) -> bytes:
        """Fetch a file."""
        return self.client.get(path).raise_for_status().content

    def alive(self) -> None:
        """Check that it answers."""
        assert self.client.get("/v1/models").status_code == 200


@contextmanager
def running(
    bundles: Path | Sequence[Path], data: Path, limits: Limits | None = None, *, token: str | None = None,
    backend: str = "native", page: Path | None = None,
) -> Iterator[Running]:  # fmt: skip
    """Run a studio of a model, or of several, on a free port."""
    limits, watchers = limits or Limits(free_bytes=0), Watchers()
    queue = Gated(Store(data), limits, watchers.tell)
    studio = Studio(queue, LoadedModels([bundles] if isinstance(bundles, Path) else bundles, backend), watchers, limits)
    listening = server.listen("127.0.0.1", 0)
    started = threading.Event()
    more = {} if page is None else {"page": page}
    own = server.Server(app(studio, token=token, **more), watchers, limits, started.set)
    thread = threading.Thread(target=own.run, args=([listening],), daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    found = Running(f"http://127.0.0.1:{listening.getsockname()[1]}", studio, queue, thread)
    try:
        yield found
    finally:
        queue.gate.set()
        own.should_exit = True
        found.client.close()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the studio does not stop"


def wav(seconds: float = 0.4, rate: int = 32_000, channels: int = 1, seed: int = 0, subtype: str = "PCM_16") -> bytes:
    """A clip of noise."""
    samples = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * rate), channels)).clip(-0.9, 0.9)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def samples(data: bytes) -> np.ndarray:
    """Read a file's samples as float32."""
    return np.asarray(soundfile.read(io.BytesIO(data), dtype="float32")[0])


def until(condition: Any) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
