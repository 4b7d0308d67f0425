"""Errors as JSON: `{"error": {"message", "type", "param"}}`, whatever went wrong."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from ...errors import UserError
from ..errors import Kind, Refused, no_room
from ..job_queue import LOG


def error(status: int, message: str, kind: Kind, param: str | None = None, retry_after: int | None = None) -> Response:
    """Return an error's answer."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": {"message": message, "type": kind, "param": param}}, status, headers)


async def refused(_: Request, e: Exception) -> Response:
    """Answer a request that is not served, or a clip that can't be read."""
    e = no_room(e) or e
    if isinstance(e, Refused):
        return error(e.status, str(e), e.kind, e.param, e.retry_after)
    assert isinstance(e, UserError)
    return error(400, str(e), "invalid_request_error", "file")


async def http(request: Request, e: Exception) -> Response:
    """Answer a path that is not there, or a method that it does not take."""
    assert isinstance(e, HTTPException)
    if e.status_code == HTTPStatus.NOT_FOUND:
        return error(404, f"there is nothing at {request.url.path[:100]!r}", "not_found")
    headers = dict(e.headers or {})
    found = error(e.status_code, f"{request.method[:20]} is not what this address takes", "invalid_request_error")
    found.headers.update(headers)
    return found


async def left(_: Request, e: Exception) -> Response:
    """Answer nobody: the client went before its request was complete."""
    return Response(status_code=499)


async def fault(request: Request, e: Exception) -> Response:
    """Answer a request that met a fault of this program; the terminal shows it, the answer does not."""
    LOG.error("%s %s", request.method, request.url.path, exc_info=e)
    return error(500, "a fault of this program; the studio's terminal shows where", "server_error")


HANDLERS = {UserError: refused, ClientDisconnect: left, HTTPException: http}
