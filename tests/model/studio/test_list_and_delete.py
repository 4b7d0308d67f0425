"""What is kept: the list of all jobs, and their files, until they are deleted."""

from __future__ import annotations

import shutil
import tempfile
import threading
from typing import Any

import httpx
import pytest

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
