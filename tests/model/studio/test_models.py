"""A job is made by the model that it was asked of, whatever that is called at the next start."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from model.results.edit_record import read

from .conftest import BACKEND
from .running import Running, running, wav


@pytest.fixture
def two(golden_bundles: Callable[[int], Path], tmp_path: Path) -> list[Path]:
    """Two models whose folders have one name."""
    places = [tmp_path / where / "band" for where in "ab"]
    for place, bits in zip(places, (4, 8)):
        shutil.copytree(golden_bundles(bits), place)
    return places


def queued(studio: Running) -> list[str]:
    """Ask both models for an edit, behind one that does not go on, and stop."""
    studio.queue.gate.clear()
    studio.job(wav())
    jobs = [studio.job(wav(), model=name)["id"] for name in ("band", "band-2")]
    studio.queue.stop()
    return jobs


def weights(data: Path, job: str) -> str:
    return read(data / "jobs" / job / "1.wav").weights


@pytest.mark.slow
def test_another_order_of_models_mixes_nothing_up(two: list[Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(two, data, backend=BACKEND) as studio:
        done = [studio.done(studio.job(wav(), model=name))["id"] for name in ("band", "band-2")]
        jobs = queued(studio)
    assert weights(data, done[0]) != weights(data, done[1])
    with running(two[::-1], data, backend=BACKEND) as studio:
        for job, before, name in zip(jobs, done, ("band-2", "band")):
            assert studio.done(job)["model"] == studio.get(before)["model"] == name
            assert weights(data, job) == weights(data, before)
        assert all(model["work_per_second"] for model in studio.client.get("/v1/models").json()["data"])


@pytest.mark.slow
def test_a_model_that_is_not_served_any_more_is_said_and_its_name_is_no_others(two: list[Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(two, data, backend=BACKEND) as studio:
        done = studio.done(studio.job(wav(), model="band"))["id"]
        gone, kept = queued(studio)
    with running(two[1:], data, backend=BACKEND) as studio:
        assert studio.done(kept)["model"] == "band"
        failed = studio.get(gone)
        assert (failed["state"], failed["error"]["param"]) == ("failed", "model")
        said = "its model band is not served any more; start the studio with it, or edit the clip with another (band)"
        assert failed["error"]["message"] == said
        assert studio.get(done)["model"] == failed["model"] == "band (not served)"
    with running(two, data, backend=BACKEND) as studio:
        assert studio.get(done)["model"] == studio.get(gone)["model"] == "band"


@pytest.mark.slow
def test_a_folder_that_was_moved_is_the_same_model(two: list[Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(two[0], data, backend=BACKEND) as studio:
        job = studio.done(studio.job(wav()))["id"]
    moved = two[0].rename(tmp_path / "orchestra")
    with running([two[1], moved], data, backend=BACKEND) as studio:
        assert studio.get(job)["model"] == "orchestra"
