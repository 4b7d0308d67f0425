"""The studio as an ASGI application: the page, its routes, and what surrounds them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ..errors import Refused, not_found
from ..worker import Worker
from . import job_routes, v1_routes
from .answers import HANDLERS
from .forms import body
from .guard import LOCAL, Guard, cookie_name
from .requests import Studio, studio_of

PAGE = Path(__file__).parents[1] / "page"
EXAMPLE = Path(__file__).parents[2] / "demo" / "clip.flac"
MEDIA = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json",
    ".flac": "audio/flac",
    ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon", ".txt": "text/plain", ".md": "text/plain",
    ".webmanifest": "application/manifest+json", ".woff2": "font/woff2",
}  # fmt: skip
STOPPING = 15
"""Seconds that the job that runs has to notice that the studio stops."""


def app(studio: Studio, hosts: Iterable[str] = LOCAL, token: str | None = None, page: Path = PAGE) -> Starlette:
    """Return the application. Its life is that of the worker, which begins and ends with it."""
    files = {path.relative_to(page).as_posix(): path for path in page.rglob("*") if path.is_file()}
    files["example.flac"] = EXAMPLE

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        studio.watchers.begin()
        studio.queue.name_models(studio.models.names)
        worker = Worker(studio.queue, studio.models)
        worker.start()
        try:
            yield
        finally:
            studio.watchers.close()
            studio.queue.stop()
            await to_thread.run_sync(worker.join, STOPPING)
            studio.queue.store.close()

    async def index(_: Request) -> Response:
        return _file(files, "index.html")

    async def part(request: Request) -> Response:
        return _file(files, request.path_params["name"])

    routes = [
        Route("/", index, methods=["GET"]),
        Route("/page/{name:path}", part, methods=["GET"]),
        Route("/session", session, methods=["POST"]),
        *v1_routes.ROUTES,
        *job_routes.ROUTES,
    ]
    guard = Middleware(Guard, hosts=hosts, token=token)
    found = Starlette(routes=routes, middleware=[guard], exception_handlers=HANDLERS, lifespan=life)
    found.router.redirect_slashes = False
    found.state.studio, found.state.token = studio, token
    return found


def _file(files: dict[str, Path], name: str) -> Response:
    """Return a file of the page by a name that was read at the start, never by a client's path."""
    path = files.get(name)
    if path is None:
        raise not_found(f"the page has no {name[:60]!r}")
    media = MEDIA.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=media, headers={"Cache-Control": "no-cache"})


async def session(request: Request) -> Response:
    """Take the token once, and give it back as a cookie: players and event sources can't send headers."""
    token, limits = request.app.state.token, studio_of(request).limits
    sent = b"".join([part async for part in body(request, 4096, limits)])
    try:
        given = json.loads(sent)["token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused('send {"token": "..."}', "token") from None
    if not isinstance(given, str) or (token is not None and not Guard(request.app, token=token).matches(given)):
        raise Refused("the token is wrong; use the address that the studio prints", "token", "forbidden", 401)
    answer = Response(status_code=204)
    if token is not None:
        answer.set_cookie(cookie_name(request.scope), token, httponly=True, samesite="strict", path="/")
    return answer
