"""Names to folders: local paths, the cache, and what can't be found, each in one line."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from model.bundle import hub
from model.bundle.bundle import demo_path, open_bundle
from model.errors import UserError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def test_a_path_that_exists_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert hub.resolve("owner/name") == Path("owner/name")
    assert hub.resolve(tmp_path) == tmp_path


IMPOSSIBLE = ("no/such/folder", "./bundle", "/absent", "~nobody/x", "~no-such-user/x", "a b", "", "weights.ckpt",
              "x/y.bin", "../up", "owner/../..", "owner/a--b", "a/b/", "owner/nâme", "x" * 300, "nul\0")  # fmt: skip


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_is_no_path_and_can_be_no_repo(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(UserError, match="does not exist"):
        hub.resolve(name)


def _http(kind: type[Exception]) -> Exception:
    """The error without its constructor, which wants another HTTP library's response in each version."""
    error = kind.__new__(kind)
    Exception.__init__(error, "404 Client Error\nRequest ID: 1")
    return error


FAILURES: dict[str, tuple[Exception, str]] = {
    "unknown repo": (_http(errors.RepositoryNotFoundError), "neither a local path nor a Hugging Face repo"),
    "gated": (_http(errors.GatedRepoError), "gated"),
    "unknown revision": (_http(errors.RevisionNotFoundError), "no revision 'v9'"),
    "no network": (_http(errors.LocalEntryNotFoundError), "the Hub cannot be reached"),
    "bad name": (errors.HFValidationError("bad"), "valid Hugging Face repo name"),
    "connection broke": (ConnectionError("reset by peer\nmore"), "cannot fetch .* reset by peer$"),
    "disk": (OSError(28, "No space left on device"), "cannot fetch .* No space left"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_every_failure_is_one_line(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    error, fragment = FAILURES[case]

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match=fragment) as caught:
        hub.resolve("owner/name", revision="v9")
    assert "\n" not in str(caught.value) and "owner/name" in str(caught.value)


def test_revision_and_patterns_reach_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.resolve("owner/name", revision="v1", allow_patterns=("*.json",)) == tmp_path
    assert asked == {"name": "owner/name", "revision": "v1", "allow_patterns": ["*.json"]}


def cache(home: Path, name: str, commit: str = "0" * 40) -> None:
    """The demo bundle as huggingface_hub would have cached it."""
    repo = home / "hub" / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    shutil.copytree(demo_path(), repo / "snapshots" / commit)


OPEN = """
import sys
from model.bundle import hub
from model.bundle.bundle import open_bundle
from model.errors import UserError
print(hub.cached(sys.argv[1]))
try:
    print(open_bundle(sys.argv[1], revision=sys.argv[2] if len(sys.argv) > 2 else None).config.lm.dim)
except UserError as e:
    sys.exit(f"error: {e}")
"""


@pytest.mark.parametrize("offline", ["1", "0"])
def test_a_cached_bundle_needs_no_network(tmp_path: Path, offline: str) -> None:
    """Offline by setting, or because nothing answers."""
    cache(tmp_path, "owner/bundle")
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": offline, "HF_ENDPOINT": "http://127.0.0.1:9",
                                "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    environment.pop("HF_HUB_CACHE", None)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", OPEN, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    found = run("owner/bundle")
    assert (found.returncode, found.stdout.split()) == (0, ["True", "256"]), found.stderr
    absent = run("owner/other")
    assert (absent.returncode, absent.stdout.split()) == (1, ["False"])
    assert "owner/other is not a local path, not in the Hugging Face cache" in absent.stderr.splitlines()[-1]


def _answering(reply: bytes | None) -> tuple[socket.socket, str]:
    """A server that takes connections, and answers none of them, or all with `reply`."""
    server = socket.create_server(("127.0.0.1", 0), backlog=50)

    def serve() -> None:
        held = []
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                held.append(connection)
                if reply is not None:
                    connection.recv(65_536)
                    connection.sendall(reply)
                    connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return server, f"http://127.0.0.1:{server.getsockname()[1]}"


def _opened(home: Path, endpoint: str, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint,
                                "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_ETAG_TIMEOUT": "1"} | extra  # fmt: skip
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-c", OPEN, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("reply", [None, b"no HTTP at all\r\n\r\n", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"])
def test_a_network_that_gives_nothing_useful_leaves_the_cache(tmp_path: Path, reply: bytes | None) -> None:
    """A captive portal, a dead proxy: no answer within the limit, or another one."""
    cache(tmp_path, "owner/bundle")
    server, endpoint = _answering(reply)
    with server:
        found = _opened(tmp_path, endpoint, "owner/bundle")
    assert (found.returncode, found.stdout.split()) == (0, ["True", "256"]), found.stderr


def test_a_proxy_that_is_gone_leaves_the_cache(tmp_path: Path) -> None:
    cache(tmp_path, "owner/bundle")
    proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    found = _opened(tmp_path, "http://hub.example", "owner/bundle", **proxy)
    assert (found.returncode, found.stdout.split()) == (0, ["True", "256"]), found.stderr


def test_what_is_missing_is_named_as_such(tmp_path: Path) -> None:
    cache(tmp_path, "owner/bundle")
    cache(tmp_path, "owner/half")
    shutil.rmtree(tmp_path / "hub" / "models--owner--half" / "refs")
    no = _opened(tmp_path, "http://127.0.0.1:9", "owner/bundle", "v2", HF_HUB_OFFLINE="1").stderr
    assert "revision 'v2' of owner/bundle is not in the Hugging Face cache (which has main)" in no
    (tmp_path / "hub" / "models--owner--half" / "blobs").mkdir()
    no = _opened(tmp_path, "http://127.0.0.1:9", "owner/half", HF_HUB_OFFLINE="1").stderr
    assert "owner/half is only partly in the Hugging Face cache" in no


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    server, endpoint = _answering(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 97\r\n\r\n"
        b'{"id": "o/b", "sha": "' + b"1" * 40 + b'", "siblings": [{"rfilename": "x"}]}'.ljust(35)
    )
    with server:
        done = _opened(Path("/dev/null"), endpoint, "o/b")
    assert done.returncode == 1 and done.stderr.strip().count("\n") == 0, done.stderr


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    names = ["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"]
    assert hub.missing_shards(names) == ["model-00002-of-00003.safetensors"]
    assert hub.missing_shards([*names, "model-00002-of-00003.safetensors"]) == []
    bundle = Path(shutil.copytree(demo_path(), tmp_path / "bundle"))
    (bundle / "model.safetensors").rename(bundle / "model-00002-of-00002.safetensors")
    with pytest.raises(UserError, match=r"lacks model-00001-of-00002.safetensors of its 2 weight files"):
        open_bundle(bundle)


def test_a_whole_download_lacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache(tmp_path, "owner/bundle")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert hub.cached("owner/bundle") and hub.partly_cached("owner/bundle") == ""
    assert not hub.cached("owner/none") and hub.partly_cached("owner/none") == ""
    commit = next((tmp_path / "hub" / "models--owner--bundle" / "snapshots").iterdir())
    (commit / "compression_state_dict.bin").unlink()
    assert not hub.cached("owner/bundle") and hub.partly_cached("owner/bundle") == "compression_state_dict.bin"


def test_many_processes_share_one_cache(tmp_path: Path) -> None:
    cache(tmp_path, "owner/bundle")
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", OPEN, "owner/bundle"]
    several = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) for _ in range(8)]
    assert [p.communicate()[0].split() for p in several] == [[b"True", b"256"]] * 8
