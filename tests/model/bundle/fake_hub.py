"""A Hugging Face Hub of one's own on localhost: what huggingface_hub asks of it, with faults to order."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "1234567890" * 4


@dataclass
class Hub:
    """`repos` maps a name to a folder; files of `large` bytes or more are kept as the Hub keeps large files.

    `cut`: the byte before which the connection of a large file breaks; `silent`: data never comes; `damage`: large
    files arrive with a changed byte; `sizes` overrides what the Hub says of a file's size. `asked` logs the requests.
    """

    repos: dict[str, Path]
    large: int = 20_000
    cut: int | None = None
    silent: bool = False
    damage: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    license: str | None = "cc-by-nc-4.0"
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    endpoint: str = ""

    def files(self, repo: str) -> dict[str, bytes]:
        """Every file's content by its name."""
        folder = self.repos[repo]
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    def info(self, repo: str) -> dict[str, Any]:
        """What the model's page in the API says."""
        siblings = []
        for name, data in self.files(repo).items():
            size = self.sizes.get(name, len(data))
            entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": hashlib.sha1(data).hexdigest()}
            if len(data) >= self.large:
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 130}
            siblings.append(entry)
        card = {"cardData": {"license": self.license}} if self.license else {}
        return {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "tags": [], **card}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve it while the block runs; `hub.endpoint` is its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, body: bool) -> None:
            hub.asked.append((self.command, self.path, self.headers.get("Range", "")))
            path = self.path.partition("?")[0]
            for repo in hub.repos:
                if path in (f"/api/models/{repo}", f"/api/models/{repo}/revision/main"):
                    return self._send(200, json.dumps(hub.info(repo)).encode(), {"Content-Type": "application/json"})
                if path.startswith(f"/api/models/{repo}/revision/"):
                    return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                for start in (f"/{repo}/resolve/{COMMIT}/", f"/{repo}/resolve/main/", f"/cdn/{repo}/"):
                    if path.startswith(start):
                        return self._file(repo, path.removeprefix(start), body, cdn=start.startswith("/cdn"))
            return self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})

        def _file(self, repo: str, name: str, body: bool, cdn: bool) -> None:
            data = hub.files(repo).get(name)
            if data is None:
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            large = len(data) >= hub.large
            sha = hashlib.sha256(data).hexdigest()
            told = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha if large else hashlib.sha1(data).hexdigest()}"'}
            if large and not cdn:
                told |= {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(data))}
                return self._send(302, b"", told | {"Location": f"{hub.endpoint}/cdn/{repo}/{name}"})
            if large and hub.silent:
                time.sleep(30)
            if large and hub.damage:
                data = bytes([data[0] ^ 1]) + data[1:]
            begin = int(self.headers["Range"].split("=")[1].split("-")[0]) if self.headers.get("Range") else 0
            ranged = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if begin else {}
            stop = max(hub.cut - begin, 0) if large and hub.cut is not None else None
            self._send(206 if begin else 200, data[begin:], told | ranged, body, stop)

        def _send(
            self, code: int, data: bytes, headers: dict[str, str], body: bool = True, stop: int | None = None
        ) -> None:
            self.send_response(code)
            for key, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(key, value)
            self.end_headers()
            if body and self.command == "GET":
                self.wfile.write(data[:stop])
            if stop is not None and stop < len(data):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
