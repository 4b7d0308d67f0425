"""The browser that drives the page: Debian's chromium-headless-shell, or another Chromium that is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--host-resolver-rules=MAP studio.test 127.0.0.1",
]  # fmt: skip
PACKAGES = ("playwright", "axe_playwright_python", "starlette", "uvicorn", "python_multipart")


def executable() -> str | None:
    """Return the browser to run: $STUDIO_BROWSER, or the first one that is installed."""
    return os.environ.get("STUDIO_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


def missing() -> str | None:
    """Say why no browser test can run here, and the fix."""
    if absent := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        return f"{absent[0]} is not installed (pip install -e '.[test]')"
    if executable() is None:
        return "there is no Chromium (apt-get install chromium-headless-shell, or name one in STUDIO_BROWSER)"
    return None


def summary() -> list[str]:
    """Give a line where the page was not tested, for the end of a run."""
    return [f"the studio's page in a browser NOT tested: {why}"] if (why := missing()) else []
