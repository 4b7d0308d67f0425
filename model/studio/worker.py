"""The one thread that owns the models and runs the jobs, one after the other."""

from __future__ import annotations

import threading
import time

from ..errors import UserError
from .board import LOG, Board, Stop
from .edits import make
from .jobs import Failure, Job, failure
from .refused import no_room
from .shelf import Shelf


class Worker(threading.Thread):
    """Runs until the board stops. The model that is used by default is loaded first of all."""

    def __init__(self, board: Board, shelf: Shelf) -> None:
        super().__init__(name="studio worker", daemon=True)
        self.board, self.shelf = board, shelf

    def run(self) -> None:
        """Load, then run job after job; an error ends a job, never the thread."""
        try:
            self.shelf.model(self.shelf.get(self.shelf.first))
        except Exception as e:  # /v1/models tells of it, and so does every job that needs the model
            LOG.warning("%s cannot be loaded: %s", self.shelf.first, " ".join(str(e).split()))
        while (job := self.board.take()) is not None:
            try:
                self._run(job)
            except Stop:
                if self.board.stopping:
                    self.board.put_back(job)
                else:
                    self.board.finish(job)
            except (UserError, ValueError, MemoryError) as e:
                self.board.finish(job, failure(e))
            except Exception as e:
                if no_room(e):
                    self.board.finish(job, failure(e))
                    continue
                LOG.exception("job %s", job.id)
                message = "the edit failed by a fault of this program; the studio's terminal shows where"
                self.board.finish(job, Failure(message, "server_error"))

    def _run(self, job: Job) -> None:
        model = self.shelf.model(self.shelf.of(job))
        self.board.check(job)
        begun = time.perf_counter()
        candidates, ranked_by = make(model, job, self.board.store.path(job), self.board)
        self.board.check(job)
        job.candidates, job.ranked_by, job.work = candidates, ranked_by, time.perf_counter() - begun
        self.board.finish(job)
