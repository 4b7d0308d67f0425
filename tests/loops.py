"""No event loop outlives the tests that use it: `asyncio.run` fails in every later test of a thread where one runs."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest


def running() -> bool:
    """Whether an event loop runs in this thread, as one does while a synchronous Playwright is open."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """Fail the last test of a folder if a loop still runs after it: a fixture is held for longer than its folder."""
    yield
    if running() and (nextitem is None or nextitem.path.parent != item.path.parent):
        pytest.fail(f"an event loop still runs after the last test of {item.path.parent}; close what started it: "
                    "give its fixture scope='package' or less")  # fmt: skip
