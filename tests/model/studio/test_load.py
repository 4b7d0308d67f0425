"""Fifty clients that post, listen, cancel and leave at random: nothing is lost or mixed up, and nothing grows.

STUDIO_LOAD_SECONDS=60 makes it a minute.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from model import InstructMusicGen
from model.instructions import trained
from model.studio.jobs import FINAL
from model.studio.limits import Limits

from .conftest import BACKEND
from .running import Running, running, samples, until, wav

SECONDS = float(os.environ.get("STUDIO_LOAD_SECONDS", "5"))
CLIENTS = 50
CLIPS = [wav(0.1 + 0.06 * n, seed=n) for n in range(4)]
PROMPTS = ("only drums", "no bass", "add piano")


class Client(threading.Thread):
    """One of them, with a random course of its own."""

    def __init__(self, studio: Running, seed: int, end: float) -> None:
        super().__init__()
        self.random, self.end = random.Random(seed), end
        self.url, self.seen = studio.url, Counter[str]()
        self.made: dict[str, tuple[int, int, int]] = {}
        """Of each job that was taken: clip, prompt and seed."""
        self.deleted: set[str] = set()
        self.wrong: list[str] = []

    def run(self) -> None:
        """Do something until the end."""
        try:
            with httpx.Client(base_url=self.url, timeout=120) as self.client:
                while time.monotonic() < self.end:
                    self.random.choice([self.post, self.post, self.listen, self.watch, self.cancel, self.look])()
        except Exception as e:
            self.wrong.append(repr(e))

    def post(self) -> None:
        """Ask for an edit, if there is room."""
        clip, prompt, seed = (
            self.random.randrange(len(CLIPS)),
            self.random.randrange(len(PROMPTS)),
            self.random.randrange(5),
        )
        answer = self.client.post("/jobs", files={
            "file": (f"{clip}.wav", CLIPS[clip]), "prompt": (None, PROMPTS[prompt]), "seed": (None, str(seed)),
        })  # fmt: skip
        self.seen[f"post {answer.status_code}"] += 1
        if answer.status_code == 202:
            self.made[answer.json()["id"]] = clip, prompt, seed
        elif answer.status_code != 429 or int(answer.headers["retry-after"]) < 1:
            self.wrong.append(answer.text)
        else:
            time.sleep(self.random.random() * 0.2)

    def one(self) -> str | None:
        """Return one of the jobs that this client knows."""
        mine = [job for job in self.made if job not in self.deleted]
        return self.random.choice(mine) if mine else None

    def listen(self) -> None:
        """Hear a job while it is made, and leave at some time."""
        if (job := self.one()) is None:
            return
        with self.client.stream("GET", f"/jobs/{job}/audio/1.f32") as answer:
            self.seen[f"listen {answer.status_code}"] += 1
            for _ in answer.iter_raw():
                if self.random.random() < 0.3 or time.monotonic() > self.end:
                    break

    def watch(self) -> None:
        """Hear of a job's course, and leave at some time."""
        if (job := self.one()) is None:
            return
        with self.client.stream("GET", f"/jobs/{job}/events") as answer:
            self.seen[f"watch {answer.status_code}"] += 1
            for _ in answer.iter_lines():
                if self.random.random() < 0.2 or time.monotonic() > self.end:
                    break

    def cancel(self) -> None:
        """Cancel a job, or delete it if it is over."""
        if (job := self.one()) is None or self.random.random() < 0.5:
            return
        status = self.client.delete(f"/jobs/{job}").status_code
        self.seen[f"delete {status}"] += 1
        if status == 204:
            self.deleted.add(job)
        elif status != 200:
            self.wrong.append(f"DELETE: {status}")

    def look(self) -> None:
        """Look at what there is."""
        for path in ("/jobs", "/v1/models"):
            self.seen[f"look {self.client.get(path).status_code}"] += 1


@pytest.mark.slow
@pytest.mark.serial
def test_fifty_clients_at_random_lose_nothing_and_mix_nothing_up(
    tiny: Path, tmp_path: Path, model: InstructMusicGen
) -> None:
    given = [samples(clip) for clip in CLIPS]
    with running(tiny, tmp_path, Limits(queue=8, free_bytes=0), backend=BACKEND) as studio:
        studio.done(studio.job(wav()))
        process = psutil.Process()
        before, end, peak, waiting = process.memory_info().rss, time.monotonic() + SECONDS, 0, 0
        clients = [Client(studio, seed, end) for seed in range(CLIENTS)]
        for each in clients:
            each.start()
        while any(each.is_alive() for each in clients):
            peak = max(peak, process.memory_info().rss)
            waiting = max(waiting, len(studio.queue._queue))
            time.sleep(0.05)
        assert [wrong for each in clients for wrong in each.wrong] == []
        seen = sum((each.seen for each in clients), Counter[str]())
        print(f"\n{dict(seen)}; at most {waiting} waited; memory grew by {(peak - before) / 1e6:.0f} MB")
        assert seen["post 202"] > 0 and seen["post 429"] > 0 and waiting <= 8
        assert peak - before < 400 << 20
        made = {job: what for each in clients for job, what in each.made.items() if job not in each.deleted}
        listed = {job["id"] for job in studio.client.get("/jobs?limit=1000").json()["jobs"]}
        assert made.keys() <= listed, "a job was lost"
        until(lambda: all(studio.get(job)["state"] in FINAL for job in made))
        expected: dict[tuple[int, int, int], np.ndarray] = {}
        done = [job for job in made if studio.get(job)["state"] == "done"]
        for job in done:
            clip, prompt, seed = what = made[job]
            if what not in expected:
                said = trained(PROMPTS[prompt])
                expected[what] = np.array(model.generate(said, given[clip], seed=seed))
            assert (samples(studio.bytes(f"/jobs/{job}/audio/1.wav")) == expected[what]).all(), "edits were mixed up"
            assert studio.get(job)["input"]["name"] == f"{clip}.wav"
        assert done
        until(lambda: not studio.studio.watchers._waiting)
        assert {path.name for path in studio.queue.store.folder.iterdir()} == listed
    assert Counter(thread.name for thread in threading.enumerate())["studio worker"] == 0
