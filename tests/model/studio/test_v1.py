"""The routes in OpenAI's and mlx-audio's shape: the sound is the command line's, and who leaves cancels."""

from __future__ import annotations

import base64
import io
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.cli import main

from .conftest import BACKEND
from .running import Running, samples, until, wav

EDITS = "/v1/audio/edits"


@pytest.fixture(scope="module")
def by_command(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, bytes]]:
    """A clip, and what the command line makes of it."""
    folder = tmp_path_factory.mktemp("command")
    clip = folder / "song.wav"
    clip.write_bytes(wav(0.8, 44_100, 2))
    asked = [str(clip), "-i", "only drums", "--model", str(tiny), "--backend", BACKEND, "--seed", "7", "--quiet"]
    for kind in ("wav", "flac"):
        assert main(["edit", *asked, "-o", str(folder / f"out.{kind}")]) == 0
    return clip.read_bytes(), {kind: (folder / f"out.{kind}").read_bytes() for kind in ("wav", "flac")}


@pytest.mark.parametrize("fields", [
    {}, {"response_format": "wav"}, {"stream": "true"}, {"response_format": "flac"}, {"n": "1"}, {"user": "me"},
])  # fmt: skip
def test_an_edit_has_the_command_lines_bytes(
    studio: Running, by_command: tuple[bytes, dict[str, bytes]], fields: dict[str, str]
) -> None:
    clip, expected = by_command
    answer = studio.post(clip, EDITS, "song.wav", prompt="only drums", seed=7, **fields)
    kind = fields.get("response_format", "wav")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == f"audio/{kind}" and answer.headers["x-seed"] == "7"
    assert answer.content == expected[kind]
    assert studio.get(answer.headers["x-job-id"])["settings"]["seed"] == 7


@pytest.mark.parametrize("stream", ["true", "false"])
def test_bare_samples(studio: Running, by_command: tuple[bytes, dict[str, bytes]], stream: str) -> None:
    clip, expected = by_command
    answer = studio.post(clip, EDITS, prompt="only drums", seed=7, response_format="f32", stream=stream)
    assert answer.content == samples(expected["wav"]).astype("<f4").tobytes()


def test_several_edits_come_as_json_or_zip(studio: Running) -> None:
    found = studio.post(wav(), EDITS, prompt="no bass", n=2, response_format="json").json()
    assert [each["seed"] for each in found["data"]] == [0, 1] and isinstance(found["created"], int)
    assert sorted(each["rank"] for each in found["data"]) == [1, 2]
    assert all(len(samples(base64.b64decode(each["b64_audio"]))) == 12_800 for each in found["data"])
    answer = studio.post(wav(), EDITS, prompt="no bass", n=2, response_format="zip")
    assert answer.headers["content-type"] == "application/zip" and answer.content[:2] == b"PK"


@pytest.mark.parametrize(("fields", "param"), [
    ({"response_format": "mp3"}, "response_format"), ({"n": "2"}, "response_format"), ({"stream": "si"}, "stream"),
    ({"stream": "true", "response_format": "flac"}, "stream"), ({"stream": "true", "from_input": "true"}, "stream"),
    ({"size": "1024"}, "size"), ({"source": "0123456789abcdef/1"}, "file"),
])  # fmt: skip
def test_what_cannot_be_answered_is_refused_before_any_work(
    studio: Running, fields: dict[str, str], param: str
) -> None:
    before = len(studio.client.get("/jobs").json()["jobs"])
    answer = studio.post(wav(), EDITS, prompt="only drums", **fields)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param
    assert len(studio.client.get("/jobs").json()["jobs"]) == before


def test_a_separation_adds_up_to_the_input(studio: Running) -> None:
    clip = wav(0.5, 44_100, 2)
    for fields in ({"description": "drums"}, {"prompt": "only the drums"}):
        found = studio.post(clip, "/v1/audio/separations", **fields).json()
        parts = [soundfile.read(io.BytesIO(base64.b64decode(found[name])), dtype="int16")[0].astype(int)
                 for name in ("target", "residual")]  # fmt: skip
        assert (sum(parts) == soundfile.read(io.BytesIO(clip), dtype="int16")[0]).all() and found[
            "sample_rate"
        ] == 44_100
    for wrong in ({"description": "drums, bass"}, {"description": ""}, {"description": "add drums"}):
        assert studio.post(clip, "/v1/audio/separations", **wrong).status_code == 400


@pytest.mark.parametrize("fields", [{}, {"stream": "true"}, {"n": "2", "response_format": "json"}])
def test_a_client_that_leaves_cancels_its_edit(studio: Running, fields: dict[str, str]) -> None:
    studio.queue.gate.clear()
    studio.queue.waiting.clear()
    studio.queue.at = 60 if "stream" in fields else 1
    request = studio.client.build_request(
        "POST", EDITS, files={"file": ("a.wav", wav(1.6)), **{k: (None, v) for k, v in fields.items()},
                              "prompt": (None, "only drums")},
    )  # fmt: skip
    body = request.read()
    lines = [f"POST {EDITS} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    with socket.create_connection(("127.0.0.1", studio.port)) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        until(studio.queue.waiting.is_set)
        if "stream" in fields:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    newest = studio.client.get("/jobs?limit=1").json()["jobs"][0]["id"]
    until(lambda: studio.get(newest)["state"] == "canceled")
    studio.queue.gate.set()
    studio.queue.at = 1


def test_an_edit_that_fails_says_why(studio: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from model import memory

    monkeypatch.setattr(memory, "available", lambda: 1000)
    for stream in ("true", "false"):
        answer = studio.post(wav(), EDITS, prompt="only drums", stream=stream)
        assert answer.status_code == 400 and "not even one fits" in answer.json()["error"]["message"]


def test_a_fault_of_ours_is_a_500_without_its_inside(studio: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("model.studio.worker.make", broken)
    answer = studio.post(wav(), EDITS, prompt="only drums")
    assert answer.status_code == 500 and "secret" not in answer.text
    monkeypatch.undo()
    assert studio.post(wav(), EDITS, prompt="only drums").status_code == 200


def test_models_say_what_a_page_needs(studio: Running, tiny: Path) -> None:
    found = studio.client.get("/v1/models").json()
    (model,) = found["data"]
    assert model["id"] == tiny.name and str(tiny.parent) not in str(found)
    assert model["state"] == "ready" and model["instruments"] == ["Drums", "Bass", "Piano", "Guitar"]
    assert model["bits"] == 4 and model["backend"] == BACKEND and model["sample_rate"] == 32_000
    assert set(found["limits"]) == {"upload_bytes", "clip_seconds", "clip_samples", "candidates", "queue"}


def test_a_prompt_is_translated_before_it_is_sent(studio: Running) -> None:
    ask = studio.client.get
    assert ask("/v1/sentence?prompt=lose the bass").json() == {
        "sentence": "Music piece. Instruct: No Bass.", "note": None, "verb": "No",
    }  # fmt: skip
    unclear = ask("/v1/sentence?prompt=make it sad").json()
    assert unclear["sentence"] == "make it sad" and "goes in as it is" in unclear["note"] and unclear["verb"] is None
    assert ask("/v1/sentence?prompt=").status_code == ask("/v1/sentence?prompt=x&model=y").status_code == 400


def test_a_streams_samples_are_numbers(studio: Running) -> None:
    answer = studio.post(wav(0.3), EDITS, prompt="only drums", response_format="f32")
    assert np.isfinite(np.frombuffer(answer.content, "<f4")).all() and len(answer.content) == 4 * 9600
