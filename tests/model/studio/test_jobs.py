"""A job's life: asked for, queued, heard while it is made, done, canceled, deleted."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from model import InstructMusicGen, audio
from model.candidates.scores import fit
from model.instructions import trained
from model.results import edit_record as records
from model.studio.limits import Limits

from .conftest import BACKEND
from .running import Running, running, samples, until, wav


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, message and parameter of an error, whose form is checked."""
    found = answer.json()["error"]
    assert set(found) == {"message", "type", "param"} and found["message"], answer.text
    return answer.status_code, found["message"], found["param"]


def test_candidates_are_what_the_model_makes_of_each_seed(
    studio: Running, model: InstructMusicGen, tmp_path: Path
) -> None:
    clip = wav(0.9)
    (tmp_path / "clip.wav").write_bytes(clip)
    job = studio.done(studio.job(clip, n=3, seed=5, temperature=0.9, top_k=40, guidance=2.0, prompt="remove the bass"))
    assert job["sentence"] == "Music piece. Instruct: No Bass." and job["prompt"] == "remove the bass"
    given = audio.load(tmp_path / "clip.wav").samples
    scores = []
    for each, seed in zip(job["candidates"], (5, 6, 7)):
        expected = model.generate(job["sentence"], given, seed=seed, temperature=0.9, top_k=40, guidance=2.0)
        found = studio.bytes(each["files"]["wav"])
        assert each["seed"] == seed and (samples(found) == np.array(expected)).all()
        assert studio.bytes(each["files"]["live"]) == np.array(expected).astype("<f4").tobytes()
        assert each["score"] == pytest.approx(fit(samples(found), given, "No"))
        scores.append(each["score"])
    assert job["ranked_by"] == "fit"
    assert [job["candidates"][scores.index(score)]["rank"] for score in sorted(scores, reverse=True)] == [1, 2, 3]


def test_files_say_how_they_were_made(studio: Running, tmp_path: Path) -> None:
    job = studio.done(studio.job(wav(), name="my song.wav", seed=9, guidance=2.5))
    for kind in ("wav", "flac"):
        path = tmp_path / f"edit.{kind}"
        path.write_bytes(studio.bytes(job["candidates"][0]["files"][kind]))
        made = records.read(path)
        assert (made.seed, made.input, made.options) == (9, "my song.wav", {"guidance": 2.5})


def test_flac_holds_the_edit_in_24_bits(studio: Running) -> None:
    job = studio.done(studio.job(wav(seed=3)))
    files = job["candidates"][0]["files"]
    exact, rounded = samples(studio.bytes(files["wav"])), samples(studio.bytes(files["flac"]))
    assert np.abs(exact / max(1, np.abs(exact).max()) - rounded).max() <= 2**-23


def test_events_tell_of_the_course_and_end_with_it(studio: Running) -> None:
    studio.queue.gate.clear()
    job = studio.job(wav(1.2))
    until(studio.queue.waiting.is_set)
    with studio.client.stream("GET", f"/jobs/{job['id']}/events") as answer:
        lines = answer.iter_lines()
        found = [json.loads(next(line for line in lines if line.startswith("data: "))[6:])]
        studio.queue.gate.set()
        found += [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert found[0]["state"] == "running" and found[-1]["state"] == "done"
    assert [each["done"] for each in found] == sorted(each["done"] for each in found)
    assert found[-1]["done"] == found[-1]["total"] > 60
    assert studio.events(job["id"]) == found[-1:]


def test_samples_are_heard_before_the_edit_is_done(studio: Running) -> None:
    studio.queue.gate.clear()
    studio.queue.at = 55
    job = studio.job(wav(1.6))
    with studio.client.stream("GET", f"/jobs/{job['id']}/audio/1.f32") as answer:
        assert answer.headers["x-sample-rate"] == "32000" and "content-length" not in answer.headers
        parts = answer.iter_raw()
        first = next(parts)
        assert (
            studio.get(job["id"])["state"] == "running" and studio.get(job["id"])["candidates"][0]["ready_seconds"] > 0
        )
        studio.queue.gate.set()
        whole = first + b"".join(parts)
    studio.queue.at = 1
    done = studio.done(job)
    assert whole == samples(studio.bytes(done["candidates"][0]["files"]["wav"])).tobytes()


def test_a_listener_who_leaves_cancels_nothing(studio: Running) -> None:
    studio.queue.gate.clear()
    studio.queue.at = 55
    job = studio.job(wav(1.6))
    with studio.client.stream("GET", f"/jobs/{job['id']}/audio/1.f32") as answer:
        next(answer.iter_raw())
    studio.queue.gate.set()
    studio.queue.at = 1
    studio.done(job)


def test_a_running_job_is_canceled_within_a_step_and_the_next_one_runs(studio: Running) -> None:
    studio.queue.gate.clear()
    studio.queue.waiting.clear()
    first, second = studio.job(wav(2.0)), studio.job(wav())
    until(studio.queue.waiting.is_set)
    assert studio.get(second["id"])["queue_position"] == 0
    answer = studio.client.delete(f"/jobs/{first['id']}")
    assert answer.status_code == 200 and answer.json()["state"] == "canceled"
    studio.queue.gate.set()
    studio.done(second)
    assert studio.get(first["id"])["done"] == studio.queue.at, "it went on"
    folder = studio.queue.store.path(first["id"])
    assert sorted(path.name for path in folder.iterdir()) == ["input.wav", "job.json"]
    assert studio.client.get(f"/jobs/{first['id']}/audio/1.wav").status_code == 404
    assert studio.bytes(f"/jobs/{first['id']}/audio/1.f32") == b""


def test_a_queued_job_is_canceled_and_a_finished_one_deleted(studio: Running) -> None:
    studio.queue.gate.clear()
    running, queued, last = (studio.job(wav(seed=n)) for n in range(3))
    assert studio.client.delete(f"/jobs/{queued['id']}").json()["state"] == "canceled"
    assert studio.get(last["id"])["queue_position"] in (0, 1)
    studio.queue.gate.set()
    studio.done(running)
    studio.done(last)
    for job in (running, queued):
        assert studio.client.delete(f"/jobs/{job['id']}").status_code == 204
        assert not studio.queue.store.path(job["id"]).exists()
        assert error(studio.client.get(f"/jobs/{job['id']}"))[0] == 404
        assert error(studio.client.delete(f"/jobs/{job['id']}"))[0] == 404


def test_a_cancel_that_comes_too_late_deletes_nothing(studio: Running) -> None:
    studio.queue.gate.clear()
    running, queued = studio.job(wav()), studio.job(wav(seed=1))
    assert studio.client.post(f"/jobs/{queued['id']}/cancel").json()["state"] == "canceled"
    studio.queue.gate.set()
    studio.done(running)
    for job, state in ((running, "done"), (queued, "canceled")):
        answer = studio.client.post(f"/jobs/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, state)
        assert studio.get(job["id"])["state"] == state
    assert error(studio.client.post(f"/jobs/{'0' * 16}/cancel"))[0] == 404


def test_from_input_gives_two_parts_that_add_up_to_the_input(studio: Running) -> None:
    clip = wav(0.6, 44_100, 2)
    job = studio.done(studio.job(clip, prompt="only the drums", from_input="true", n=2))
    given = soundfile.read(io.BytesIO(clip), dtype="int16")[0].astype(int)
    for each in job["candidates"]:
        assert each["files"]["live"] is None
        parts = [
            soundfile.read(io.BytesIO(studio.bytes(each["files"][name])), dtype="int16")[0].astype(int)
            for name in ("wav", "residual")
        ]
        assert (parts[0] + parts[1] == given).all()
        kept = soundfile.read(io.BytesIO(studio.bytes(each["files"]["flac"])), dtype="int16")[0]
        assert (kept == parts[0]).all()


def test_a_region_is_edited_as_the_cut_clip_is(studio: Running) -> None:
    clip = wav(1.5, 44_100, 2, seed=4)
    data, rate = soundfile.read(io.BytesIO(clip), dtype="int16")
    cut = io.BytesIO()
    soundfile.write(cut, data[round(0.3 * rate) : round(0.9 * rate)], rate, format="WAV", subtype="PCM_16")
    part = studio.done(studio.job(clip, start=0.3, end=0.9))
    alone = studio.done(studio.job(cut.getvalue()))
    assert part["input"]["seconds"] == alone["input"]["seconds"] == pytest.approx(0.6)
    found = [samples(studio.bytes(job["candidates"][0]["files"]["wav"])) for job in (part, alone)]
    assert (found[0] == found[1]).all()


def test_an_edit_is_edited_again_and_an_input_used_again(studio: Running, model: InstructMusicGen) -> None:
    first = studio.done(studio.job(wav(0.5), n=2))
    again = studio.done(studio.job(prompt="no bass", source=f"{first['id']}/2", seed=3))
    given = samples(studio.bytes(first["candidates"][1]["files"]["wav"]))
    found = samples(studio.bytes(again["candidates"][0]["files"]["wav"]))
    assert (found == np.array(model.generate(trained("no bass"), given, seed=3))).all()
    assert again["input"]["source"] == {"job": first["id"], "candidate": 2}
    same = studio.done(studio.job(source=f"{first['id']}/input", n=2))
    for one, other in zip(first["candidates"], same["candidates"]):
        pair = [samples(studio.bytes(each["files"]["wav"])) for each in (one, other)]
        assert (pair[0] == pair[1]).all()
    for source in (f"{first['id']}/3", "0123456789abcdef/1"):
        assert error(studio.post(prompt="no bass", source=source))[0] == 404


def test_the_zip_holds_the_same_bytes(studio: Running) -> None:
    job = studio.done(studio.job(wav(), n=2))
    packed = zipfile.ZipFile(io.BytesIO(studio.bytes(job["zip"])))
    assert packed.testzip() is None
    assert packed.namelist() == ["input.wav", "1.wav", "2.wav", "edits.json"]
    for name in packed.namelist()[:3]:
        assert packed.read(name) == studio.bytes(f"/jobs/{job['id']}/audio/{name}")
    listed = json.loads(packed.read("edits.json"))
    assert listed["id"] == job["id"] and [each["seed"] for each in listed["made"]] == [0, 1]


def test_finished_files_are_given_in_ranges_under_the_inputs_name(studio: Running) -> None:
    job = studio.done(studio.job(wav(), name="a/b\\Übung.mp3"))
    place = job["candidates"][0]["files"]["wav"]
    whole = studio.client.get(place)
    assert "%C3%9Cbung-1.wav" in whole.headers["content-disposition"] and job["input"]["name"] == "Übung.mp3"
    part = studio.client.get(place, headers={"Range": "bytes=10-109"})
    assert part.status_code == 206 and part.content == whole.content[10:110]
    assert studio.client.get(place, headers={"Range": f"bytes={10**9}-"}).status_code == 416
    head = studio.client.head(place)
    assert head.status_code == 200 and head.content == b"" and int(head.headers["content-length"]) == len(whole.content)


def test_a_random_seed_is_drawn_and_shown(studio: Running) -> None:
    found = {studio.job(wav(), seed="random")["settings"]["seed"] for _ in range(3)}
    assert len(found) == 3 and all(0 <= seed < 2**53 for seed in found)


def test_a_full_queue_says_when_to_come_back(tiny: Path, tmp_path: Path) -> None:
    with running(tiny, tmp_path, Limits(queue=2, free_bytes=0), backend=BACKEND) as studio:
        studio.queue.gate.clear()
        jobs = [studio.job(wav())]
        until(studio.queue.waiting.is_set)
        jobs += [studio.job(wav()) for _ in range(2)]
        answer = studio.post(wav(), prompt="only drums")
        assert error(answer) == (429, "2 jobs wait already; try again later", None)
        assert int(answer.headers["retry-after"]) >= 1
        studio.queue.gate.set()
        for job in jobs:
            studio.done(job)
        studio.done(studio.job(wav()))
        assert studio.client.get("/v1/models").json()["data"][0]["work_per_second"]["1"] > 0
        studio.queue.gate.clear()
        studio.queue.waiting.clear()
        jobs = [studio.job(wav()) for _ in range(2)]
        until(studio.queue.waiting.is_set)
        assert studio.get(jobs[1]["id"])["seconds_left"] > 0


def test_a_full_disk_is_said_before_the_upload_is_kept(tiny: Path, tmp_path: Path) -> None:
    with running(tiny, tmp_path, Limits(free_bytes=1 << 60), backend=BACKEND) as studio:
        status, message, _ = error(studio.post(wav(), prompt="only drums"))
        assert status == 507 and "delete old edits" in message


@pytest.mark.parametrize(("fields", "param", "said"), [
    ({"prompt": ""}, "prompt", 'is empty; say what to do, for example "only the drums"'),
    ({"prompt": "x" * 1001}, "prompt", "has 1001 characters; shorten it to at most 1000"),
    ({"prompt": "no\x00drums"}, "prompt", "control character"),
    ({"seed": "-1"}, "seed", "-1 must be between 0 and 18446744073709551615"),
    ({"seed": "one"}, "seed", "'one' is not a whole number"),
    ({"n": "0"}, "n", "0 must be between 1 and 8"),
    ({"n": "9"}, "n", "9 must be between 1 and 8"),
    ({"guidance": "nan"}, "guidance", "nan is not finite"),
    ({"temperature": "-1"}, "temperature", "-1 must be at least 0"),
    ({"top_k": "1.5"}, "top_k", "'1.5' is not a whole number"),
    ({"model": "other"}, "model", "'other' is not served here; choose one of"),
    ({"from_input": "maybe"}, "from_input", "must be true or false"),
    ({"from_input": "true", "prompt": "add bass"}, "from_input", "Only or No and one instrument; omit from_input"),
    ({"start": "0.2", "end": "0.1"}, "end", "0.1 must be after start (0.2); give a later end"),
    ({"start": "7"}, "start", "7 is after the clip's end (clip.wav has 0.40 s); give an earlier start"),
    ({"end": "7"}, "end", "7 is after the clip's end (clip.wav has 0.40 s); give an earlier end"),
    ({"start": "0.395"}, "file", "shorter than one codec frame"),
    ({"source": "../../etc/passwd"}, "source", "must be JOB/NUMBER, or JOB/input"),
    ({"tempo": "1"}, "tempo", "is not a field; the fields are file, model"),
])  # fmt: skip
def test_a_bad_field_is_named_in_the_command_lines_words(
    studio: Running, fields: dict[str, str], param: str, said: str
) -> None:
    before = len(list(studio.queue.store.folder.iterdir()))
    status, message, named = error(studio.post(wav(), **{"prompt": "only drums", **fields}))
    assert status == 400 and named == param and said in message
    assert len(list(studio.queue.store.folder.iterdir())) == before


def test_an_end_that_was_rounded_to_milliseconds_is_the_clips(studio: Running) -> None:
    frames, rate = 17_665, 44_100
    assert round(frames / rate, 3) > (frames + 2) / rate
    clip = wav(frames / rate, rate)
    status, message, named = error(studio.post(clip, prompt="only drums", end="0.403"))
    assert (status, named) == (400, "end") and "0.403 is after the clip's end" in message
    job = studio.done(studio.job(clip, end="0.401"))
    assert job["input"]["end"] == frames / rate and job["input"]["start"] == 0
