"""What is kept: the list of all jobs, and their files, until they are deleted."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

import httpx
import pytest

from model import instructions
from model.results import edit_record as records
from model.results.edit_record import EditRecord

from .running import PATIENCE, Running, wav
from .test_jobs import error


def test_jobs_are_listed_the_newest_first(studio: Running) -> None:
    made = [studio.job(wav(seed=n))["id"] for n in range(3)]
    listed = [job["id"] for job in studio.client.get("/jobs").json()["jobs"]]
    assert listed[:3] == made[::-1]
    assert [job["id"] for job in studio.client.get("/jobs?limit=2").json()["jobs"]] == made[:0:-1]
    assert error(studio.client.get("/jobs?limit=x"))[::2] == (400, "limit")


def test_the_list_of_jobs_comes_in_pages(studio: Running) -> None:
    made = [studio.job(wav(seed=n))["id"] for n in range(3)]
    everything = [job["id"] for job in studio.client.get("/jobs?limit=1000").json()["jobs"]]
    pages, before = [], ""
    while before is not None:
        page = studio.client.get(f"/jobs?limit=2&before={before}").json()
        pages.append([job["id"] for job in page["jobs"]])
        before = page["before"]
    assert everything[:3] == made[::-1] and [job for page in pages for job in page] == everything
    assert all(len(page) == 2 for page in pages[:-1]) and pages[-1]
    assert error(studio.client.get("/jobs?before=0123456789abcdef"))[0] == 404


def test_a_job_that_is_being_removed_holds_nobody_up(studio: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of gigabytes takes the disk a while."""
    job, other = studio.done(studio.job(wav()))["id"], studio.done(studio.job(wav()))["id"]
    begun, end = threading.Event(), threading.Event()
    rmtree = shutil.rmtree

    def slowly(*args: Any, **more: Any) -> None:
        begun.set()
        assert end.wait(PATIENCE)
        rmtree(*args, **more)

    monkeypatch.setattr("model.studio.store.shutil.rmtree", slowly)
    removal = threading.Thread(target=lambda: studio.client.delete(f"/jobs/{job}"))
    removal.start()
    try:
        assert begun.wait(PATIENCE)
        with httpx.Client(base_url=studio.url, timeout=10) as client:
            assert client.get(f"/jobs/{job}").status_code == 404
            assert client.get(f"/jobs/{other}").status_code == 200
            assert job not in [each["id"] for each in client.get("/jobs").json()["jobs"]]
            with client.stream("GET", f"/jobs/{other}/events") as answer:
                assert "done" in answer.read().decode()
    finally:
        end.set()
        removal.join(PATIENCE)
    assert not list((studio.queue.store.folder).glob(f"*{job}*"))


@pytest.mark.parametrize("name", ["audio/1.flac", "files.zip"])
def test_a_job_that_is_deleted_while_its_files_are_made_is_not_found(
    studio: Running, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    job = studio.done(studio.job(wav()))["id"]
    read = records.read

    def deleting(path: Path) -> EditRecord:
        studio.queue.remove(job)
        return read(path)

    monkeypatch.setattr(records, "read", deleting)
    answer = studio.client.get(f"/jobs/{job}/{name}")
    assert answer.status_code == 404 and answer.json()["error"]["type"] == "not_found"
    assert str(studio.queue.store.folder) not in answer.text and job in answer.text
    assert not list(studio.queue.store.folder.glob(f"*{job}*"))


@pytest.mark.parametrize(("name", "broken"), [("audio/1.flac", "soundfile.read"), ("files.zip", "zipfile.ZipFile")])
def test_a_disk_that_fails_is_no_fault_of_the_client_and_its_paths_stay_here(
    studio: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, broken: str
) -> None:
    job = studio.done(studio.job(wav()))["id"]
    folder = str(studio.queue.store.folder)

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), folder)

    with monkeypatch.context() as patch:
        patch.setattr(f"model.studio.web.sound.{broken}", fails)
        answer = studio.client.get(f"/jobs/{job}/{name}")
    assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
    assert folder not in answer.text and folder in caplog.text
    assert studio.client.get(f"/jobs/{job}/{name}").status_code == 200


@pytest.mark.parametrize("name", ["1.wav", "input.wav"])
def test_a_file_that_is_gone_from_the_disk_is_not_found(studio: Running, name: str) -> None:
    job = studio.done(studio.job(wav()))["id"]
    (studio.queue.store.path(job) / name).unlink()
    paths = ["files.zip", f"audio/{name}", *(["audio/1.flac"] if name == "1.wav" else [])]
    for path in paths:
        answer = studio.client.get(f"/jobs/{job}/{path}")
        assert answer.status_code == 404 and "gone from the disk" in answer.text, path


def test_the_loop_waits_for_no_lock_and_no_sentence(studio: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the queue's lock may wait for the disk, and every answer with him."""
    enter, reading, looping = threading.Condition.__enter__, instructions.asked, []

    def entered(self: threading.Condition) -> bool:
        if self is studio.queue._changed and asyncio._get_running_loop() is not None:
            looping.append("".join(traceback.format_stack(limit=6)))
        return enter(self)

    def asked(*args: Any) -> instructions.Asked:
        if asyncio._get_running_loop() is not None:
            looping.append("".join(traceback.format_stack(limit=6)))
        return reading(*args)

    monkeypatch.setattr(threading.Condition, "__enter__", entered)
    monkeypatch.setattr(instructions, "asked", asked)
    job = studio.done(studio.job(wav()))["id"]
    assert studio.client.get("/v1/sentence?prompt=only+drums").status_code == 200
    studio.client.get("/jobs")
    studio.client.post(f"/jobs/{job}/cancel")
    studio.client.get(f"/jobs/{job}/files.zip")
    studio.client.delete(f"/jobs/{job}")
    assert not looping, looping[0]


def test_uploads_lie_in_the_data_folder_and_are_gone_when_they_are_taken(
    studio: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str] = []
    opened = tempfile.SpooledTemporaryFile

    def noted(*args: Any, **more: Any) -> Any:
        places.append(more["dir"])
        return opened(*args, **more)

    monkeypatch.setattr("model.studio.web.forms.SpooledTemporaryFile", noted)
    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", opened)
    studio.job(wav(seconds=20, channels=2))  # more than is kept in memory
    folder = studio.queue.store.uploads
    assert places == [str(folder)] and folder.stat().st_mode & 0o77 == 0
    assert list(folder.iterdir()) == []
