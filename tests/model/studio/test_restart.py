"""A studio that is killed or stopped loses nothing: what was done is there, what ran runs again, what waited waits."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.errors import UserError
from model.studio.limits import Limits
from model.studio.store import Store

from .conftest import BACKEND
from .running import running, until, wav

ROOT = Path(__file__).parents[3]
SLOW = """
import sys, time
from model.studio.job_queue import JobQueue
take = JobQueue.progress
def slowly(self, *step):
    take(self, *step)
    time.sleep(0.02)
JobQueue.progress = slowly
from model.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The command, with steps that take long enough to be killed in."""


class Process:
    """`instruct-musicgen studio` as a process of its own, and requests to it."""

    def __init__(self, bundle: Path, data: Path) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "-c", SLOW, "studio", "--model", bundle, "--backend", BACKEND, "--port", "0",
                "--data", data, "--no-open",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("studio: http://127.0.0.1:"):
            pytest.fail(str(self.process.communicate()))
        self.client = httpx.Client(base_url=line.split()[1], timeout=60)

    def job(self, clip: bytes, **fields: Any) -> str:
        """Queue a job."""
        files = {
            "file": ("a.wav", clip),
            "prompt": (None, "only drums"),
            **{k: (None, str(v)) for k, v in fields.items()},
        }
        found: str = self.client.post("/jobs", files=files).raise_for_status().json()["id"]
        return found

    def get(self, job: str) -> dict[str, Any]:
        """Show a job."""
        found: dict[str, Any] = self.client.get(f"/jobs/{job}").raise_for_status().json()
        return found

    def wav(self, job: str) -> bytes:
        """Fetch a job's first edit."""
        return self.client.get(f"/jobs/{job}/audio/1.wav").raise_for_status().content

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """End it by a signal; its exit code, and what it said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@contextmanager
def process(bundle: Path, data: Path) -> Iterator[Process]:
    found = Process(bundle, data)
    try:
        yield found
    finally:
        found.client.close()
        if found.process.poll() is None:
            found.process.kill()
            found.process.communicate()


def is_done(studio: Process, job: str) -> bool:
    found = studio.get(job)
    assert found["state"] in ("queued", "running", "done"), found
    return bool(found["state"] == "done")


@pytest.mark.slow
def test_after_a_kill_every_finished_edit_is_there_and_the_rest_is_made(tiny: Path, tmp_path: Path) -> None:
    with process(tiny, tmp_path) as studio:
        done = studio.job(wav(0.3))
        until(lambda: is_done(studio, done))
        kept = studio.wav(done)
        ran, waits = studio.job(wav(1.0, seed=1), n=2), studio.job(wav(0.3, seed=2), seed=4)
        until(lambda: studio.get(ran)["done"] > 5)
        assert studio.end(signal.SIGKILL)[0] == -signal.SIGKILL
    (tmp_path / "jobs" / ran / ".0123456789abcdef.part").write_bytes(b"half")
    (tmp_path / "jobs" / "0123456789abcdef").mkdir()  # an upload that never became a job
    with process(tiny, tmp_path) as studio:
        assert studio.wav(done) == kept
        assert [job["id"] for job in studio.client.get("/jobs").json()["jobs"]] == [waits, ran, done]
        until(lambda: is_done(studio, ran) and is_done(studio, waits))
        assert studio.get(ran)["started"] < studio.get(waits)["started"]
        files = {path.name for path in (tmp_path / "jobs" / ran).iterdir()}
        assert files == {"job.json", "input.wav", "1.wav", "2.wav"}
        assert not (tmp_path / "jobs" / "0123456789abcdef").exists()
        again = studio.job(wav(1.0, seed=1), n=2)
        until(lambda: is_done(studio, again))
        assert studio.wav(ran) == studio.wav(again)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_clean_and_quick_and_the_job_goes_on(tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    with process(tiny, tmp_path) as studio:
        job = studio.job(wav(2.0))
        until(lambda: studio.get(job)["done"] > 3)
        with studio.client.stream("GET", f"/jobs/{job}/events") as answer:
            next(answer.iter_lines())
            code, said = studio.end(number)
        assert code == 0 and "Traceback" not in said and "error" not in said
    record = json.loads((tmp_path / "jobs" / job / "job.json").read_text())
    assert record["state"] == "queued" and record["tries"] == 0
    assert sorted(path.name for path in (tmp_path / "jobs" / job).iterdir()) == ["input.wav", "job.json"]
    with process(tiny, tmp_path) as studio:
        until(lambda: studio.get(job)["done"] > 3)


@pytest.mark.slow
def test_a_stop_cuts_a_stream_off_and_its_job_goes_on(tiny: Path, tmp_path: Path) -> None:
    with process(tiny, tmp_path) as studio:
        files = {"file": ("a.wav", wav(2.0)), "prompt": (None, "only drums"), "stream": (None, "true")}
        with studio.client.stream("POST", "/v1/audio/edits", files=files) as answer:
            parts = answer.iter_bytes(1)
            next(parts)
            code, said = studio.end(signal.SIGTERM)
            with pytest.raises(httpx.RemoteProtocolError):
                list(parts)
        assert code == 0 and "Traceback" not in said
    record = json.loads((tmp_path / "jobs" / answer.headers["x-job-id"] / "job.json").read_text())
    assert record["state"] == "queued" and record["tries"] == 0


def changed(data: Path, job: str, **changes: object) -> None:
    """Change what is kept of a job."""
    path = data / "jobs" / job / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.slow
def test_what_cannot_go_on_says_why(tiny: Path, tmp_path: Path) -> None:
    with running(tiny, tmp_path, backend=BACKEND) as studio:
        names = [studio.done(studio.job(wav(0.1, seed=n)))["id"] for n in range(6)]
    lost, tired, gone, strange, other, canceled = names
    changed(tmp_path, lost, state="running")
    (tmp_path / "jobs" / lost / "input.wav").unlink()
    changed(tmp_path, tired, state="running", tries=Limits().tries)
    (tmp_path / "jobs" / gone / "1.wav").unlink()
    (tmp_path / "jobs" / strange / "job.json").write_text('{"id": ')
    changed(tmp_path, other, id="../../elsewhere")
    changed(tmp_path, canceled, state="canceled")
    with running(tiny, tmp_path, backend=BACKEND) as studio:
        assert studio.get(lost)["state"] == "interrupted" and "input is gone" in studio.get(lost)["error"]["message"]
        assert studio.get(tired)["state"] == "interrupted" and "3 times" in studio.get(tired)["error"]["message"]
        assert studio.get(gone)["state"] == "failed" and "gone from the disk" in studio.get(gone)["error"]["message"]
        assert studio.get(canceled)["state"] == "canceled"
        for unknown in (strange, other):
            assert studio.client.get(f"/jobs/{unknown}").status_code == 404
            assert (tmp_path / "jobs" / unknown / "job.json").is_file()  # not ours to remove
        studio.done(studio.job(wav(0.1)))


@pytest.mark.slow
def test_what_cannot_be_tidied_away_ends_nothing(tiny: Path, tmp_path: Path) -> None:
    with running(tiny, tmp_path, backend=BACKEND) as studio:
        studio.queue.gate.clear()
        job = studio.job(wav(0.3))["id"]
        assert studio.queue.waiting.wait(60)
        (tmp_path / "jobs" / job / "mine").mkdir()
        assert studio.client.delete(f"/jobs/{job}").json()["state"] == "canceled"
        studio.queue.gate.set()
        studio.done(studio.job(wav(0.1)))
    changed(tmp_path, job, state="running")
    with running(tiny, tmp_path, backend=BACKEND) as studio:
        studio.done(job)


def test_files_that_somebody_removed_are_not_found(tiny: Path, tmp_path: Path) -> None:
    with running(tiny, tmp_path, backend=BACKEND) as studio:
        job = studio.done(studio.job(wav(0.1)))["id"]
        for name in ("1.wav", "input.wav"):
            (tmp_path / "jobs" / job / name).unlink()
        for path in ("audio/1.wav", "audio/1.flac", "audio/input.wav", "files.zip"):
            answer = studio.client.get(f"/jobs/{job}/{path}")
            assert answer.status_code == 404 and str(tmp_path) not in answer.text, answer.text
        for number in ("input", "1"):
            answer = studio.post(prompt="only drums", source=f"{job}/{number}")
            assert answer.status_code == 404 and str(tmp_path) not in answer.text, answer.text


@pytest.mark.slow
@pytest.mark.parametrize("where", ["model.studio.clips.write_whole", "model.studio.edits.whole_file.write_all"])
def test_a_full_disk_is_said_without_its_path(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object, **__: object) -> None:
        error = OSError(errno.ENOSPC, "No space left on device")
        if where.endswith("all"):
            raise error
        raise UserError(f"cannot write {tmp_path}: {error.strerror}") from error

    with running(tiny, tmp_path, backend=BACKEND) as studio:
        monkeypatch.setattr(where, full)
        answer = studio.post(wav(0.1), "/v1/audio/edits", prompt="only drums")
        assert answer.status_code in (500, 507) and answer.json()["error"]["type"] == "server_error"
        assert "No space left" in answer.text and str(tmp_path) not in answer.text
        monkeypatch.undo()
        studio.done(studio.job(wav(0.1)))


def test_one_folder_is_one_studios(tmp_path: Path) -> None:
    first = Store(tmp_path)
    with pytest.raises(UserError, match="in use by another studio"):
        Store(tmp_path)
    first.close()
    Store(tmp_path).close()


@pytest.mark.slow
def test_a_disk_that_refuses_ends_nothing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise UserError("cannot write job.json: No space left on device")

    with running(tiny, tmp_path, backend=BACKEND) as studio:
        job = studio.job(wav(0.1))
        studio.done(job)
        monkeypatch.setattr("model.studio.edits.whole_file.write_whole", full)
        failed = studio.events(studio.job(wav(0.1))["id"])[-1]
        assert failed["state"] == "failed" and "No space left" in failed["error"]["message"]
        monkeypatch.undo()
        monkeypatch.setattr(studio.queue.store, "save", full)
        answer = studio.post(wav(0.1), prompt="only drums")
        assert answer.status_code >= 400 and "No space left" in answer.text
        monkeypatch.undo()
        studio.done(studio.job(wav(0.1)))
        left = sorted(path.name for path in studio.queue.store.folder.iterdir())
        assert left == sorted(each["id"] for each in studio.client.get("/jobs").json()["jobs"])


def test_what_a_killed_studio_left_of_uploads_is_gone_at_the_next_start(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.close()
    (store.uploads / "tmpabc").write_bytes(b"half")
    Store(tmp_path).close()
    assert list(store.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EWOULDBLOCK, "in use by another studio"), (errno.ENOLCK, "cannot be locked")]
)
def test_a_folder_that_cannot_be_locked_is_not_said_to_be_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(UserError, match=f"{said}.*--data"):
        Store(tmp_path)
