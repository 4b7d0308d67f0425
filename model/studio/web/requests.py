"""From a form to a job in the queue."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

from anyio import CancelScope, to_thread
from starlette.requests import Request

from .. import clips, edit_request
from ..edit_request import StudioRequest
from ..errors import Refused, not_found
from ..job_queue import JobQueue
from ..jobs import Candidate, Job, new_id
from ..limits import Limits
from ..loaded_models import LoadedModels
from .forms import drain, form
from .watchers import Watchers


@dataclass(frozen=True)
class Studio:
    """The parts that requests need: the jobs, the models, those who wait, and the limits."""

    queue: JobQueue
    models: LoadedModels
    watchers: Watchers
    limits: Limits


_decoding = threading.Lock()
"""One clip is decoded at a time, so that the memory for it is taken once."""


def studio_of(request: Request) -> Studio:
    """Return the studio that a request is sent to."""
    found = request.app.state.studio
    assert isinstance(found, Studio)
    return found


Translate = Callable[[dict[str, str]], Mapping[str, str]]


async def submitted(request: Request, translate: Translate = lambda fields: fields) -> Job:
    """Read a form and queue its job.

    translate: makes an order's fields of the form's. Raises Refused, and UserError for clips that can't be read.
    """
    studio = studio_of(request)
    try:
        async with _place(studio.queue), form(request, studio.limits, studio.queue.store.uploads) as sent:
            order = await to_thread.run_sync(_read, sent.fields, translate, studio)
            if (sent.file is None) == (order.source is None):
                raise Refused("file: is missing; send a clip, or name an earlier edit in source", "file")
            file = sent.file.file if sent.file is not None else None
            name = sent.file.filename if sent.file is not None else None
            return await to_thread.run_sync(_queued, studio, order, file, name or "clip")
    except Refused:
        await drain(request, studio.limits)
        raise


@asynccontextmanager
async def _place(queue: JobQueue) -> AsyncIterator[None]:
    """Hold a place in the queue, as `JobQueue.place` does; the loop doesn't wait for its lock, or for the disk."""
    held = queue.place()
    with CancelScope(shield=True):  # or a place that was taken would never be given back
        await to_thread.run_sync(held.__enter__)
    try:
        yield
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(held.__exit__, None, None, None)


def _read(fields: dict[str, str], translate: Translate, studio: Studio) -> StudioRequest:
    return edit_request.read(translate(fields), studio.models, studio.limits)


def _queued(studio: Studio, order: StudioRequest, file: BinaryIO | None, name: str) -> Job:
    """Decode the clip and put the job into the queue, or leave nothing behind."""
    queue, own = studio.queue, new_id()
    folder = queue.store.new(own)
    try:
        with _decoding:
            if order.source is not None:
                name, path = edit_request.source_file(queue, order.source)
                try:
                    file = open(path, "rb")  # noqa: SIM115 - below
                except FileNotFoundError:
                    raise not_found(f"source: the files of job {order.source.job} are gone from the disk") from None
            assert file is not None
            with file:
                place = folder / "input.wav"
                clip = clips.take(file, name, order.start, order.end, place, studio.limits, order.source)
        settings = order.settings
        candidates = [Candidate(n + 1, (settings.seed + n) % 2**64) for n in range(settings.n)]
        job = Job(
            own, order.model.id, order.prompt, order.sentence, order.note, settings, clip, candidates, time.time(),
            weights=order.model.weights,
        )  # fmt: skip
        queue.add(job)
        return job
    except BaseException:
        queue.store.delete(own)
        raise
