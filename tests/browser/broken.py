"""Ways to break what a page asks for, some of the times that it asks."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, Route

from .conftest import Job

RECORDINGS = re.compile(r"/jobs/\w+/audio/.*wav$")
RESET = "ERR_CONNECTION_RESET"
BROKEN = {
    "is reset": lambda route: route.abort("connectionreset"),
    "is answered 503": lambda route: route.fulfill(status=503, body="starting"),
    "hangs": lambda route: None,
}
PATIENCE = 21_000
"""Milliseconds after which the page gives an answer up."""
SILENT = 41_000
"""The same of a job's events."""
ALL = (1, 2, 3)


class Broken:
    """Does something else with some of the requests for an address, counted from 1, and counts them all."""

    def __init__(
        self, page: Page, address: str | re.Pattern[str], how: Callable[[Route], object], which: tuple[int, ...] = (1,)
    ) -> None:
        self.page, self.how, self.which = page, how, which
        self.asked: list[str] = []
        page.route(address, self._take)

    def _take(self, route: Route) -> None:
        self.asked.append(route.request.url)
        if len(self.asked) in self.which:
            self.how(route)
        else:
            route.fallback()  # to what was broken before

    def wait(self, count: int) -> None:
        """Wait until so many have been asked for."""
        for _ in range(300):
            if len(self.asked) >= count:
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{len(self.asked)} requests, not {count}")


def running(page: Page, job: Job, times: int = 1) -> None:
    """Let a finished job be told as one that runs, so many times."""
    told = {**job, "state": "running", "zip": None, "finished": None, "done": 5, "total": 100}
    told["candidates"] = [
        {**each, "files": {**each["files"], "wav": None, "flac": None, "residual": None}} for each in job["candidates"]
    ]
    Broken(page, f"**/jobs/{job['id']}", lambda route: route.fulfill(json=told), tuple(range(1, times + 1)))
