"""Requests that wait for what the worker's thread tells of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Watchers:
    """Wakes coroutines when their job changes."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closing = False

    def begin(self) -> None:
        """Remember the loop that runs, to wake its coroutines."""
        self._loop = asyncio.get_running_loop()

    def tell(self, job: str) -> None:
        """Wake those who wait for a job. Any thread may call it."""
        if self._loop is not None and job in self._waiting:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake, job)

    def _wake(self, job: str) -> None:
        for event in self._waiting.get(job, ()):
            event.set()

    def close(self) -> None:
        """Wake all, and let nobody wait any more: the server stops."""
        self.closing = True
        for job in list(self._waiting):
            self._wake(job)

    @contextmanager
    def watching(self, job: str) -> Iterator[asyncio.Event]:
        """Provide an event that is set at each change of a job."""
        event = asyncio.Event()
        self._waiting.setdefault(job, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[job].discard(event)
            if not self._waiting[job]:
                del self._waiting[job]


async def changed(event: asyncio.Event, seconds: float) -> bool:
    """Wait for a change; return whether there was one within so many seconds."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    event.clear()
    return True
