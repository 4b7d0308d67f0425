"""The one thread that owns the models and runs the jobs, one after the other."""

from __future__ import annotations

import threading
import time

from ..errors import UserError
from .edits import make
from .errors import no_room
from .job_queue import LOG, JobQueue, Stop
from .jobs import Failure, Job, failure
from .loaded_models import LoadedModels


class Worker(threading.Thread):
    """The thread that makes the edits: one job at a time, until the queue stops."""

    def __init__(self, queue: JobQueue, models: LoadedModels) -> None:
        super().__init__(name="studio worker", daemon=True)
        self.queue, self.models = queue, models

    def run(self) -> None:
        """Load the default model, then run jobs until the queue stops. An error ends its job, never the thread."""
        try:
            self.models.model(self.models.get(self.models.first))
        except Exception as e:  # /v1/models tells of it, and so does every job that needs the model
            LOG.warning("%s cannot be loaded: %s", self.models.first, " ".join(str(e).split()))
        while (job := self.queue.take()) is not None:
            try:
                self._run(job)
            except Stop:
                if self.queue.stopping:
                    self.queue.put_back(job)
                else:
                    self.queue.finish(job)
            except (UserError, ValueError, MemoryError) as e:
                self.queue.finish(job, failure(e))
            except Exception as e:
                if no_room(e):
                    self.queue.finish(job, failure(e))
                    continue
                LOG.exception("job %s", job.id)
                message = "the edit failed by a fault of this program; the studio's terminal shows where"
                self.queue.finish(job, Failure(message, "server_error"))

    def _run(self, job: Job) -> None:
        model = self.models.model(self.models.of(job))
        self.queue.check(job)
        begun = time.perf_counter()
        candidates, ranked_by = make(model, job, self.queue.store.path(job), self.queue)
        self.queue.check(job)
        job.candidates, job.ranked_by, job.work = candidates, ranked_by, time.perf_counter() - begun
        self.queue.finish(job)
