"""Answers that grow: sent part by part, until they end or the client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Result = TypeVar("Result")
Left = Callable[[], Awaitable[object]]


class Gone(Exception):
    """The client has left."""


class Stream(Response):
    """A body that comes in parts; `left` is awaited if the client leaves before its end.

    One that ends before its Content-Length is cut off, so that the client knows.
    """

    def __init__(
        self, parts: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str] | None = None,
        left: Left | None = None,
    ) -> None:  # fmt: skip
        self.parts, self.left = parts, left
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the parts as they come."""
        whole = False

        async def pump() -> None:
            nonlocal whole
            missing = int(self.headers.get("content-length", "0"))
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                async for part in self.parts:
                    missing -= len(part)
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                if missing > 0:
                    return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            whole = True

        try:
            await unless_gone(pump(), receive)
        except Gone:
            pass
        finally:
            await self.parts.aclose()
            if not whole and self.left is not None:
                await asyncio.shield(self.left())


async def unless_gone(work: Awaitable[Result], receive: Receive) -> Result:
    """Do some work while the client is there. Raises Gone, and cancels the work, when it leaves."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Gone
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
