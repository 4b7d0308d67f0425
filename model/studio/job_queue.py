"""The studio's jobs: which wait, which one runs, and what became of the others. All threads share the queue."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..config import SAMPLE_RATE
from ..errors import UserError
from .errors import Refused, busy, not_found
from .jobs import GONE, Failure, Job, shown
from .limits import Limits
from .store import Store

LOG = logging.getLogger("instruct_musicgen")


class Stop(Exception):
    """The job that runs shall not go on: it was canceled, or the studio stops."""


class JobQueue:
    """Jobs by their id. What changes one is saved before anybody is told."""

    def __init__(self, store: Store, limits: Limits, tell: Callable[[str], None] = lambda _: None) -> None:
        """Take up what the store holds: jobs that waited or ran wait again. `tell` is told the id of what changes."""
        self.store, self.limits, self.tell = store, limits, tell
        self.stopping = False
        self.work: dict[str, dict[int, float]] = {}
        """Measured seconds of work for a second of audio, by weights of the model and number of candidates."""
        self._changed = threading.Condition()
        self._jobs = {job.id: job for job in sorted(store.jobs(), key=lambda job: job.created)}
        self._queue: deque[str] = deque()
        self._reserved = 0
        self._begun: tuple[float, int] | None = None
        for job in self._jobs.values():
            self._restore(job)

    def _restore(self, job: Job) -> None:
        self.store.tidy(job, results=not job.final)
        self._measure(job)
        if job.state == "done" and not self.store.whole(job):
            self._end(job, "failed", Failure("its files are gone from the disk; edit the clip again", "server_error"))
        if job.final:
            return
        if not (self.store.path(job) / "input.wav").is_file():
            self._end(job, "interrupted", Failure("its input is gone from the disk; give it again", "server_error"))
        elif job.tries >= self.limits.tries:
            why = f"the studio ended {job.tries} times while it ran; edit a shorter clip, or ask for fewer candidates"
            self._end(job, "interrupted", Failure(why, "server_error"))
        else:
            job.state, job.done, job.ready = "queued", 0, 0
            self._queue.append(job.id)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue for a job that is still being uploaded. Raises Refused where none is free."""
        with self._changed:
            if len(self._queue) + self._reserved >= self.limits.queue:
                message = f"{self.limits.queue} jobs wait already; try again later"
                raise busy(message, self._seconds_left_all() or 5)
            free = self.store.free()
            if free < self.limits.free_bytes:
                message = f"the disk is full: {self.store.folder} has {free / 1e6:.0f} MB free; delete old edits"
                raise Refused(message, kind="server_error", status=507)
            self._reserved += 1
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= 1

    def add(self, job: Job) -> None:
        """Queue a job whose files are written. Call it within `place`, which reserves its slot."""
        self.store.save(job)
        with self._changed:
            self._jobs[job.id] = job
            self._queue.append(job.id)
            self._changed.notify_all()
        self.tell(job.id)

    def take(self) -> Job | None:
        """Wait for the next job, which runs from now on; None: the studio stops."""
        with self._changed:
            while not self._queue and not self.stopping:
                self._changed.wait()
            if self.stopping:
                return None
            job = self._jobs[self._queue.popleft()]
            job.state, job.started, job.done, job.ready = "running", time.time(), 0, 0
            job.tries += 1
            self._begun = None
            waiting = list(self._queue)
            self._save(job)
        for each in (job.id, *waiting):
            self.tell(each)
        return job

    def check(self, job: Job) -> None:
        """Raise Stop if a job shall not go on."""
        if self.stopping or job.state != "running":
            raise Stop

    def progress(self, job: Job, done: int, total: int) -> None:
        """Note the steps of the job that runs. Raises Stop if it shall not go on."""
        self.check(job)
        if self._begun is None:
            self._begun = time.perf_counter(), done
        job.done, job.total = done, total
        self.tell(job.id)

    def heard(self, job: Job, samples: int) -> None:
        """Note how many samples of each candidate can be heard. Raises Stop if the job shall not go on."""
        self.check(job)
        job.ready = samples
        self.tell(job.id)

    def finish(self, job: Job, error: Failure | None = None) -> None:
        """End the job that runs, done or failed. A job that was canceled meanwhile stays so."""
        if error:
            self.store.tidy(job, results=True)
        with self._changed:
            ended = job.state == "running"
            if ended:
                self._end(job, "failed" if error else "done", error)
                self._measure(job)
        if ended:
            self.tell(job.id)
        else:
            self.store.tidy(job, results=True)

    def put_back(self, job: Job) -> None:
        """Leave the job that ran to the next start of the studio, as if it had not been begun."""
        with self._changed:
            self.store.tidy(job, results=True)
            if job.state == "running":
                job.state, job.started, job.done, job.ready = "queued", None, 0, 0
                job.tries -= 1
                self._save(job)

    def remove(self, name: str) -> dict[str, Any] | None:
        """Cancel a job that waits or runs, and return its view; or delete a finished job with its files: None."""
        with self._changed:
            job = self.get(name)
            if not job.final:
                self.cancel(job)
                return self._shown(job)
            del self._jobs[name]
            self.store.hide(name)
        self.tell(name)
        self.store.remove(name)  # nobody waits for the disk
        return None

    def cancel(self, job: Job) -> None:
        """Cancel a job that waits or runs; one that is over stays as it is."""
        with self._changed:
            if job.final:
                return
            if job.id in self._queue:
                self._queue.remove(job.id)
            self._end(job, "canceled")
            told = [job.id, *self._queue]
        for each in told:
            self.tell(each)

    def stop(self) -> None:
        """Stop: `take` gives nothing more, and what runs is told to end."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()

    def get(self, name: str) -> Job:
        """Return a job. Raises Refused where there is none."""
        try:
            return self._jobs[name]
        except KeyError:
            raise not_found(f"there is no job {name}; GET /jobs lists them") from None

    def view(self, name: str) -> dict[str, Any]:
        """Return a job as the API shows it. Raises Refused where there is none."""
        with self._changed:
            return self._shown(self.get(name))

    def views(self, limit: int, before: str | None = None) -> tuple[list[dict[str, Any]], str | None]:
        """Return the jobs, the newest first, at most `limit`, and what `before` must be for those that follow.

        before: a job; only older ones are returned. The second is None where none follow. Raises Refused where
        `before` is no job.
        """
        with self._changed:
            newest = list(reversed(self._jobs.values()))
            first = newest.index(self.get(before)) + 1 if before is not None else 0
            page = newest[first : first + limit]
            return [self._shown(job) for job in page], page[-1].id if first + limit < len(newest) else None

    def _shown(self, job: Job) -> dict[str, Any]:
        position = self._queue.index(job.id) if job.state == "queued" and job.id in self._queue else None
        return shown(job, position, self._seconds_left(job, position), SAMPLE_RATE)

    def _seconds_left(self, job: Job, position: int | None) -> float | None:
        """Tell the time by the steps so far, before the first ones by what edits of the model took before."""
        if job.state == "running":
            if self._begun is not None and job.done > self._begun[1]:
                since, first = self._begun
                return (time.perf_counter() - since) / (job.done - first) * (job.total - job.done)
            return self._expected(job)
        if position is None:
            return None
        before = [each for each in self._jobs.values() if each.state == "running"]
        before += [self._jobs[each] for each in list(self._queue)[: position + 1]]
        each_left = [
            self._expected(each) if each.state == "queued" else self._seconds_left(each, None) for each in before
        ]
        return None if None in each_left else sum(left for left in each_left if left is not None)

    def _seconds_left_all(self) -> float | None:
        """Tell when the job that runs is over, and with it a place is free."""
        running = next((job for job in self._jobs.values() if job.state == "running"), None)
        return self._seconds_left(running, None) if running else None

    def name_models(self, served: Mapping[str, str]) -> None:
        """Call the model of each job what it is called today; served: names by weights.

        A model that is not served any more keeps its name, unless another one has it now.
        """
        for job in self._jobs.values():
            name = job.model.removesuffix(GONE)
            if job.weights:
                job.model = served.get(job.weights) or (name + GONE if name in served.values() else name)

    def _expected(self, job: Job) -> float | None:
        work, count = self.work.get(job.weights, {}), job.settings.n
        if not work or job.settings.from_input:
            return None
        return work[min(work, key=lambda known: abs(known - count))] * job.input.seconds

    def _end(self, job: Job, state: Any, error: Failure | None = None) -> None:
        job.state, job.error, job.finished = state, error, time.time()
        self._save(job)

    def _save(self, job: Job) -> None:
        """Save what became of a job; a disk that refuses ends neither the queue nor the studio."""
        try:
            self.store.save(job)
        except UserError as e:
            LOG.warning("%s", e)

    def _measure(self, job: Job) -> None:
        if job.state == "done" and job.weights and job.work is not None and not job.settings.from_input:
            self.work.setdefault(job.weights, {})[job.settings.n] = job.work / job.input.seconds
