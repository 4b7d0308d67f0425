"""The studio behind uvicorn: one socket, deadlines for slow clients, and a stop that leaves nothing half done."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import math
import signal
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...errors import UserError
from ..limits import Limits
from .answers import error
from .guard import HEAD_BYTES, HEADERS
from .watchers import Watchers

LEAVING = 5
"""Seconds that open answers have to end when the studio stops, and that a refused body may still come."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises UserError where that can't be, naming the fix."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=128, reuse_port=False)
        # Inherited by what is accepted. asyncio sets it only on sockets that name their protocol, which these do not;
        # without it the end of each answer on a kept connection waits 40 ms for the client to acknowledge its head.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, UnicodeError, OverflowError) as e:
        number = getattr(e, "errno", None)
        if number == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use; choose another with --port, or --port 0 for any") from e
        if number in (errno.EACCES, errno.EPERM):
            raise UserError(f"port {port} is not allowed; choose one above 1023 with --port") from e
        raise UserError(f"--host {host}: cannot be listened at ({getattr(e, 'strerror', None) or e}); "
                        "127.0.0.1 is this machine alone, 0.0.0.0 all of its addresses") from e  # fmt: skip


class Server(uvicorn.Server):
    """Stops at a signal: waiting requests are ended first, so that nobody holds it up."""

    def __init__(self, app: Starlette, watchers: Watchers, limits: Limits, started: Callable[[], None]) -> None:
        """Prepare to serve; `started` is called once requests are taken."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # faults are logged by the app's own handler
        config = uvicorn.Config(
            app, http=_deadlines(limits), ws="none", lifespan="on", log_config=None, access_log=False,
            server_header=False, proxy_headers=False,
            timeout_keep_alive=math.ceil(limits.header_seconds), timeout_graceful_shutdown=LEAVING,
            h11_max_incomplete_event_size=HEAD_BYTES,
        )  # fmt: skip
        super().__init__(config)
        self.watchers, self._told = watchers, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets)
        self._told()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what waits, then the rest."""
        self.watchers.close()
        await super().shutdown(sockets)


def _deadlines(limits: Limits) -> type[H11Protocol]:
    class Deadlines(H11Protocol):
        """uvicorn's protocol, with an end to clients that send their head, or read their answer, too slowly."""

        _timers: dict[str, asyncio.TimerHandle]

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.app = self._within(self.app)

        def _within(self, inner: Any) -> Any:
            async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
                if len(self.connections) <= limits.connections:
                    await inner(scope, receive, send)
                    return
                answer = error(503, f"{limits.connections} connections are open; try again later", "busy", None, 5)
                answer.headers.update({**HEADERS, "Connection": "close"})
                await answer(scope, receive, send)

            return bounded

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._timers = {}
            self._set("head", limits.header_seconds)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._look()

        def connection_lost(self, exc: Exception | None) -> None:
            for name in list(self._timers):
                self._clear(name)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._set("reading", limits.stalled_seconds)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._clear("reading")

        def _look(self) -> None:
            """See which deadlines hold: of a head that is not whole, and of a body that nobody wants."""
            answered = self.cycle is None or self.cycle.response_complete
            if answered and self.conn.their_state is h11.IDLE:
                self._set("head", limits.header_seconds)
            else:
                self._clear("head")
            if answered and self.conn.their_state is h11.SEND_BODY:
                self._set("body", LEAVING)
            else:
                self._clear("body")

        def _set(self, name: str, seconds: float) -> None:
            if name not in self._timers:
                end = self._too_slow if name == "head" else self.transport.abort
                self._timers[name] = self.loop.call_later(seconds, end)

        def _too_slow(self) -> None:
            begun = bool(self.conn.trailing_data[0])
            if begun and not self.transport.is_closing():
                self.transport.write(_bare(408, "the request's head takes too long"))
            self.transport.close()

        def send_400_response(self, msg: str) -> None:
            self.transport.write(_bare(400, "this is no HTTP request that can be read, or its head is too large"))
            self.transport.close()

        def _clear(self, name: str) -> None:
            if timer := self._timers.pop(name, None):
                timer.cancel()

    return Deadlines


def _bare(status: int, message: str) -> bytes:
    """Return a whole answer to what never became a request."""
    content = json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": None}})
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    return f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode()


def run(server: Server, listening: socket.socket) -> None:
    """Serve until a signal says to stop, which is a good end."""
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    except SystemExit as e:
        if e.code != 128 + signal.SIGTERM:
            raise
