"""`instruct-musicgen studio`: a page to edit and listen, and an HTTP API."""

from __future__ import annotations

import argparse
import importlib.util
import os
import secrets
import sys
import threading
import webbrowser
from pathlib import Path

from ..bundle import hub
from ..errors import UsageError
from ..system.cache import data
from .editing.opening import note
from .shared_options import DEFAULT_REPO

NEEDED = ("starlette", "uvicorn", "python_multipart")
TOKEN = "INSTRUCT_MUSICGEN_STUDIO_TOKEN"
SHORTEST = 16


def run(arguments: argparse.Namespace) -> None:
    """Check, open the models, listen, say where, and serve until Ctrl-C."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UsageError(f"the studio needs {missing[0]}; pip install 'instruct-musicgen-mlx[studio]'")
    from ..system.installation import check_kernels

    check_kernels()
    from ..bundle.bundle import DEMO
    from ..studio.job_queue import JobQueue
    from ..studio.limits import Limits
    from ..studio.loaded_models import LoadedModels
    from ..studio.store import Store
    from ..studio.web import server
    from ..studio.web.app import app
    from ..studio.web.guard import LOCAL, is_loopback, own_names
    from ..studio.web.requests import Studio
    from ..studio.web.watchers import Watchers

    local = is_loopback(arguments.host)
    token = _token(arguments.token, local)
    listening = server.listen(arguments.host, arguments.port)
    with listening:
        names = arguments.model or [*([DEFAULT_REPO] if hub.cached(DEFAULT_REPO) else []), DEMO]
        limits, watchers = Limits(), Watchers()
        models = LoadedModels(names, arguments.backend)
        folder: Path = arguments.data or data() / "studio"
        queue = JobQueue(Store(folder), limits, watchers.tell)
        hosts = {*LOCAL, *arguments.allow_host, arguments.host, *(() if local else own_names())}
        studio = app(Studio(queue, models, watchers, limits), hosts, token)
        address = _address(arguments.host, listening.getsockname()[1], token)

        def started() -> None:
            print(f"studio: {address}", flush=True)
            if _wants_browser(arguments.open):
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        note(f"edits are kept in {folder}; Ctrl-C stops, and an edit that runs begins again at the next start")
        server.run(server.Server(studio, watchers, limits, started), listening)
    print("studio: stopped", flush=True)


def _token(given: str | None, local: bool) -> str | None:
    """Return the token that requests need; None: from this machine they need none."""
    given = given or os.environ.get(TOKEN)
    if given is None:
        return None if local else secrets.token_urlsafe(24)
    if len(given) < SHORTEST or not all(c.isascii() and (c.isalnum() or c in "-._~") for c in given):
        allowed = "letters, digits, or any of -._~"
        raise UsageError(f"--token: needs at least {SHORTEST} {allowed}; omit it, and one is made")
    return given


def _address(host: str, port: int, token: str | None) -> str:
    """Return the address to open: of this machine where it listens on all of its addresses."""
    from ..studio.web.guard import own_names

    shown = min(own_names(), key=len) if host in ("0.0.0.0", "::", "") else host
    shown = f"[{shown}]" if ":" in shown else shown
    return f"http://{shown}:{port}/" + (f"#token={token}" if token else "")


def _wants_browser(asked: bool | None) -> bool:
    """Tell whether to open a browser: if asked, else where somebody sits at a screen."""
    if asked is not None:
        return asked
    screen = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return screen and sys.stdout is not None and sys.stdout.isatty()
