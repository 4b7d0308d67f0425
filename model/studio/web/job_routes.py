"""Jobs: ask for one, look at it, hear of its course, listen, cancel it, delete it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ... import parse_values
from .. import edit_request
from ..errors import Refused
from ..jobs import FINAL
from . import sound
from .requests import Studio, studio_of, submitted
from .streams import Stream
from .watchers import changed

PAUSE = 0.1
"""Seconds between two events of a job."""
HEARTBEAT = 15
"""Seconds after which a job that has not changed is told again, so that a silent stream is a broken one."""
LISTED = 200


async def create(request: Request) -> Response:
    """Queue an edit."""
    job = await submitted(request)
    view = await to_thread.run_sync(studio_of(request).queue.view, job.id)
    return JSONResponse(view, 202, {"Location": f"/jobs/{job.id}"})


async def index(request: Request) -> Response:
    """List the jobs, the newest first; `before` asks for those older than one, the answer's is for the next page."""
    limit = edit_request.value(request.query_params, "limit", parse_values.integer(1, 1000), LISTED)
    before = request.query_params.get("before") or None
    page, more = await to_thread.run_sync(studio_of(request).queue.views, limit, before)
    return JSONResponse({"jobs": page, "before": more})


async def show(request: Request) -> Response:
    """Show a job."""
    return JSONResponse(await to_thread.run_sync(studio_of(request).queue.view, request.path_params["job"]))


async def remove(request: Request) -> Response:
    """Cancel a job, or delete one that is over."""
    canceled = await to_thread.run_sync(studio_of(request).queue.remove, request.path_params["job"])
    return Response(status_code=204) if canceled is None else JSONResponse(canceled)


async def cancel(request: Request) -> Response:
    """Cancel a job that waits or runs, and show it; one that is over stays as it is, however late this comes."""
    queue, name = studio_of(request).queue, request.path_params["job"]
    await to_thread.run_sync(queue.cancel, queue.get(name))
    return JSONResponse(await to_thread.run_sync(queue.view, name))


async def events(request: Request) -> Response:
    """Tell of a job's course, as server-sent events."""
    studio, name = studio_of(request), request.path_params["job"]
    studio.queue.get(name)
    return Stream(_told(studio, name), "text/event-stream", {"Cache-Control": "no-store"})


async def _told(studio: Studio, name: str) -> AsyncGenerator[bytes, None]:
    with studio.watchers.watching(name) as event:
        while not studio.watchers.closing:
            try:
                view = await to_thread.run_sync(studio.queue.view, name)  # which may wait for the disk
            except Refused:  # deleted
                return
            yield f"event: job\ndata: {json.dumps(view)}\n\n".encode()
            if view["state"] in FINAL:
                return
            await asyncio.sleep(PAUSE)
            await changed(event, HEARTBEAT)


async def hear(request: Request) -> Response:
    """Give a file of a job, or a candidate's samples while they are made."""
    studio, name = studio_of(request), request.path_params["name"]
    job = studio.queue.get(request.path_params["job"])
    if found := re.fullmatch(r"([1-9][0-9]{0,2})\.f32", name):
        return sound.live(studio.queue, studio.watchers, job, int(found[1]))
    return await to_thread.run_sync(sound.finished, studio.queue, job, name)


async def archive(request: Request) -> Response:
    """Give all files of a job in one."""
    queue = studio_of(request).queue
    return await to_thread.run_sync(sound.archive, queue, queue.get(request.path_params["job"]))


ROUTES = [
    Route("/jobs", create, methods=["POST"]),
    Route("/jobs", index, methods=["GET"]),
    Route("/jobs/{job}", show, methods=["GET"]),
    Route("/jobs/{job}", remove, methods=["DELETE"]),
    Route("/jobs/{job}/cancel", cancel, methods=["POST"]),
    Route("/jobs/{job}/events", events, methods=["GET"]),
    Route("/jobs/{job}/audio/{name}", hear, methods=["GET"]),
    Route("/jobs/{job}/files.zip", archive, methods=["GET"]),
]
