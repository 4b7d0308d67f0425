"""`download` from a Hub on localhost: what it says, what it goes on with, what it refuses, and work without network."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from model.bundle.bundle import demo_path
from tests.model.bundle.fake_hub import COMMIT, Hub, serving

ROOT = Path(__file__).parents[3]
REPO = "owner/bundle"
pytestmark = pytest.mark.slow


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """The demo bundle without its T5, which is a repo of its own."""
    folder, t5 = tmp_path / "repo", tmp_path / "t5"
    shutil.copytree(demo_path(), folder, ignore=shutil.ignore_patterns("t5"))
    (folder / "README.md").write_text("not fetched")
    shutil.copytree(demo_path() / "t5", t5)
    with serving(Hub({REPO: folder, "google-t5/t5-base": t5})) as served:
        yield served


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    told = {"HF_HOME": str(home), "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    return kept | told | {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "NO_PROXY": "*"} | more


def run(hub: Hub, home: Path, *argv: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model.cli", *map(str, argv)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(hub, home, **more), capture_output=True, text=True, timeout=120
    )


def fails(done: subprocess.CompletedProcess[str], code: int, *fragments: str) -> None:
    last = done.stderr.splitlines()[-1]
    assert done.returncode == code and last.startswith("error: ") and "Traceback" not in done.stderr, done
    assert all(fragment in last for fragment in fragments), last


def large(hub: Hub) -> Path:
    return hub.repos[REPO] / "model.safetensors"


def part(home: Path, file: Path) -> Path:
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    return home / "hub" / "models--owner--bundle" / "blobs" / f"{sha}.incomplete"


def test_it_says_what_comes_fetches_it_and_all_works_offline(tmp_path: Path, hub: Hub) -> None:
    home = tmp_path / "home"
    done = run(hub, home, "download", REPO)
    assert done.returncode == 0, done.stderr
    for fragment in (f"{REPO}: revision main, commit {COMMIT[:12]}", "license: cc-by-nc-4.0", "google-t5/t5-base:",
                     "MB\n", "to fetch: ", " GB in ", "complete; it needs no network now"):  # fmt: skip
        assert fragment in done.stdout, done.stdout
    assert not any("README" in path for _, path, _ in hub.asked) and not list(home.rglob("*.incomplete"))
    before = len(hub.asked)
    out = tmp_path / "out.wav"
    clip = demo_path().parent / "clip.flac"
    edit = ("edit", clip, "-i", "no drums", "-o", out, "--model", REPO, "--max-steps", "5", "--backend", "reference")
    edited = run(hub, home, *edit, HF_HUB_OFFLINE="1")
    assert edited.returncode == 0 and soundfile.info(out).frames == 5 * 640, edited.stderr
    assert len(hub.asked) == before


def test_a_second_run_fetches_nothing(tmp_path: Path, hub: Hub) -> None:
    home = tmp_path / "home"
    assert run(hub, home, "download", REPO).returncode == 0
    before = len(hub.asked)
    done = run(hub, home, "download", REPO)
    assert done.returncode == 0 and "to fetch: 0.00 MB, " in done.stdout and "are in the cache" in done.stdout
    assert not [path for command, path, _ in hub.asked[before:] if command == "GET" and "/api/" not in path]


@pytest.mark.parametrize("how", ["broken", "silent"])
def test_an_interrupted_fetch_goes_on_where_it_stopped(tmp_path: Path, hub: Hub, how: str) -> None:
    """The Hub stops in the middle; every wait ends, what came is kept, and the next run asks for the rest only.

    huggingface_hub hands data over 10 MB at a time, so the file is larger than that.
    """
    home, big = tmp_path / "home", large(hub).with_name("model-0.safetensors")
    big.write_bytes(bytes(range(256)) * 100_000)
    hub.cut = 15_000_000 if how == "broken" else None
    hub.silent = how == "silent"
    if how == "silent":
        path = part(home, big)
        path.parent.mkdir(parents=True)
        path.write_bytes(big.read_bytes()[:12_345])
    fails(run(hub, home, "download", REPO), 1, REPO, "it goes on where it stopped")
    kept = part(home, big).stat().st_size
    assert 10_000_000 <= kept < 15_000_001 if how == "broken" else kept == 12_345
    hub.cut, hub.silent = None, False
    before = len(hub.asked)
    done = run(hub, home, "download", REPO)
    assert done.returncode == 0, done.stderr
    ranges = [r for _, path, r in hub.asked[before:] if path == f"/cdn/{REPO}/{big.name}"]
    assert f"bytes={kept}-" in ranges[0]
    found = home / "hub" / "models--owner--bundle" / "snapshots" / COMMIT / big.name
    assert found.read_bytes() == big.read_bytes() and not part(home, big).exists()


def test_ctrl_c_keeps_what_came(tmp_path: Path, hub: Hub) -> None:
    home = tmp_path / "home"
    path = part(home, large(hub))
    path.parent.mkdir(parents=True)
    path.write_bytes(large(hub).read_bytes()[:5000])
    hub.silent = True
    command = [sys.executable, "-m", "model.cli", "download", REPO]
    settings = environment(hub, home, HF_HUB_DOWNLOAD_TIMEOUT="60")
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, env=settings, stderr=pipe, stdout=pipe, text=True)
    until = time.monotonic() + 60
    while not any("/cdn/" in asked for _, asked, _ in hub.asked) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on where it stopped" in err.splitlines()[-1] and "Traceback" not in err
    assert path.stat().st_size == 5000


def test_damaged_data_is_found_and_not_kept(tmp_path: Path, hub: Hub) -> None:
    home = tmp_path / "home"
    hub.damage = True
    fails(run(hub, home, "download", REPO), 1, "arrived damaged", "SHA-256", "; run the command again")
    assert not part(home, large(hub)).exists()
    hub.damage = False
    assert run(hub, home, "download", REPO).returncode == 0


def test_what_a_file_of_another_size_says_to_delete_mends_it(tmp_path: Path, hub: Hub) -> None:
    """A file without a checksum, so that only its size tells."""
    hub.large, home = 10**9, tmp_path / "home"
    assert run(hub, home, "download", REPO).returncode == 0
    link = home / "hub" / "models--owner--bundle" / "snapshots" / COMMIT / "model.safetensors"
    kept = link.resolve()
    kept.write_bytes(kept.read_bytes()[:100])
    fails(run(hub, home, "download", REPO), 1, "has 100 bytes, and the Hub says", f"; delete {kept} and run")
    kept.unlink()
    assert run(hub, home, "download", REPO).returncode == 0
    assert link.read_bytes() == large(hub).read_bytes()


def test_a_file_that_does_not_fit_the_disk_is_not_begun(tmp_path: Path, hub: Hub) -> None:
    hub.sizes["model.safetensors"] = 10**15
    fails(run(hub, tmp_path / "home", "download", REPO), 1, "00000.00 GB are still to fetch", "are free", "HF_HOME")
    assert not any("/cdn/" in path for _, path, _ in hub.asked)


def test_what_cannot_be_fetched_is_one_line(tmp_path: Path, hub: Hub) -> None:
    home = tmp_path / "home"
    fails(run(hub, home, "download", "owner/none"), 1, "owner/none", "Hugging Face repo")
    fails(run(hub, home, "download", REPO, "--revision", "v9"), 1, "no revision 'v9'")
    fails(run(hub, home, "download", "google-t5/t5-base"), 1, "it is not a bundle")
    fails(run(hub, home, "download", tmp_path), 2, "use it with --model")
    fails(run(hub, home, "download", "a b"), 2, "not the name of a Hugging Face repo")
    fails(run(hub, home, "download", REPO, HF_ENDPOINT="http://127.0.0.1:9"), 1, REPO)
    hub.repos.pop("google-t5/t5-base")
    fails(run(hub, home, "download", REPO), 1, "google-t5/t5-base")


def test_a_bundle_with_its_own_t5_needs_no_other_repo(tmp_path: Path) -> None:
    with serving(Hub({REPO: demo_path()}, license=None)) as hub:
        done = run(hub, tmp_path / "home", "download", REPO)
        assert done.returncode == 0 and "license: none stated" in done.stdout, done.stderr
        assert not any("t5-base" in path for _, path, _ in hub.asked)
