"""Requests that are malformed or meant to harm: each is refused with a 4xx, and the studio goes on."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from model.studio.limits import Limits

from .conftest import BACKEND
from .hostile import LIMITS, flac_of, form, head, part, raw, whole
from .running import Running, running, wav


@pytest.fixture(scope="module")
def studio(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny, tmp_path_factory.mktemp("hostile"), LIMITS, backend=BACKEND) as found:
        yield found


def wave(channels: int, rate: int, bits: int, data: bytes, size: int | None = None, tag: int = 1) -> bytes:
    """A WAV file whose header says whatever is asked."""
    block = channels * bits // 8
    kind = struct.pack("<HHIIHH", tag, channels, rate, (rate * block) % 2**32, block % 2**16, bits)
    size = len(data) if size is None else size
    chunks = b"fmt " + struct.pack("<I", 16) + kind + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", min(4 + len(chunks), 2**32 - 1)) + b"WAVE" + chunks


FORM = "Content-Type: multipart/form-data; boundary=b"
HEADS: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "a path that climbs": (404, "GET /../../etc/passwd", ()),
    "a path that climbs, encoded": (404, "GET /page/%2e%2e%2f%2e%2e%2fetc%2fpasswd", ()),
    "a path that climbs, encoded twice": (404, "GET /page/%252e%252e/app.py", ()),
    "a path below the page": (404, "GET /page/..%5c..%5cjobs.py", ()),
    "a NUL in a path": (404, "GET /page/index.html%00.js", ()),
    "a job that is a path": (404, "GET /jobs/..%2f..%2fx", ()),
    "a file that is a path": (404, "GET /jobs/0123456789abcdef/audio/..%2fjob.json", ()),
    "a job's record": (404, "GET /jobs/0123456789abcdef/audio/job.json", ()),
    "a candidate without end": (404, "GET /jobs/0123456789abcdef/audio/99999999999999999999.f32", ()),
    "a path of bytes": (404, "GET /%ff%fe", ()),
    "a method that is not taken": (405, "PUT /jobs", ()),
    "a method that is none": (405, "BREW /jobs", ()),
    "another site's origin": (403, "GET /jobs", ("Origin: http://evil.example",)),
    "no origin at all": (403, "POST /jobs", ("Origin: null", "Content-Length: 0")),
    "the origin of another port": (403, "POST /jobs", ("Origin: http://127.0.0.1:1", "Content-Length: 0")),
    "an image on another site": (403, "GET /jobs", ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")),
    "two hosts": (400, "GET /jobs", ("Host: evil.example",)),
    "JSON where a form is taken": (415, "POST /jobs", ("Content-Type: application/json", "Content-Length: 0")),
    "a form without a boundary": (400, "POST /jobs", ("Content-Type: multipart/form-data", "Content-Length: 0")),
    "a body said to be huge": (413, "POST /jobs", (FORM, "Content-Length: 99999999999")),
    "a negative length": (400, "POST /jobs", ("Content-Length: -1",)),
    "two lengths": (400, "POST /jobs", ("Content-Length: 1", "Content-Length: 2")),
    "length and chunks": (400, "POST /jobs", ("Transfer-Encoding: gzip", "Content-Length: 2")),
    "a huge header": (431, "GET /jobs", ("X: " + "a" * 100_000,)),
    "thousands of headers": (431, "GET /jobs", tuple(f"X-{n}: a" for n in range(5000))),
    "a header without end": (400, "GET /jobs", ("X: " + "a" * 1_000_000,)),
    "a header that is none": (400, "GET /jobs", ("no colon here",)),
    "a session that is no JSON": (400, "POST /session", ("Content-Length: 0",)),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_not_for_us_is_refused(studio: Running, name: str) -> None:
    status, line, more = HEADS[name]
    found, answer = raw(studio, head(studio, line, *more))
    assert found == status, answer
    assert b"root:" not in answer and b"Traceback" not in answer
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) == {"message", "type", "param"}
    studio.alive()


@pytest.mark.parametrize("host", [
    "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example@127.0.0.1", "192.168.1.7",
    "127.0.0.1:port", "[::1", "", "localhost/..", "0x7f.1",
])  # fmt: skip
def test_a_foreign_host_is_refused(studio: Running, host: str) -> None:
    status, answer = raw(studio, head(studio).replace(f"127.0.0.1:{studio.port}".encode(), host.encode()))
    assert status in (400, 403), answer
    studio.alive()


@pytest.mark.parametrize("host", ["localhost:{}", "127.0.0.1:{}", "[::1]:{}", "LOCALHOST:9000", "127.0.0.1"])
def test_the_names_of_this_machine_are_let_through(studio: Running, host: str) -> None:
    assert raw(studio, head(studio, host=host.format(studio.port)))[0] == 200


HEADER = f"{'X' * 200}: {'y' * 4000}\r\n"
FORM_TYPES = ["undefined", "punycode", "utf-7", "unicode_escape", "utf-16"]


@pytest.mark.parametrize("charset", FORM_TYPES)
def test_a_form_in_another_charset_is_refused(studio: Running, charset: str) -> None:
    body = part("prompt", b"a." + b"x" * 100) + part("+2AA-\\ud800", b"1") + b"--b--\r\n"
    status, answer = raw(studio, form(studio, body, boundary=f"b; charset={charset}"))
    assert status == 415 and b"UTF-8" in answer, answer
    studio.alive()


def test_a_form_may_say_that_it_is_in_utf_8(studio: Running) -> None:
    status, answer = raw(studio, form(studio, whole(wav(0.1)), boundary="b; charset=UTF-8"))
    assert status == 202, answer
    studio.done(json.loads(answer.partition(b"\r\n\r\n")[2]))


@pytest.mark.parametrize("times", [{"start": "1e308"}, {"end": "1e308"}, {"start": "1e307", "end": "1.1e307"}])
def test_a_time_without_bounds_is_refused(studio: Running, times: dict[str, str]) -> None:
    answer = studio.post(wav(0.1), prompt="only drums", **times)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == next(iter(times))


def test_more_connections_than_are_taken_are_refused_as_json(tiny: Path, tmp_path: Path) -> None:
    with running(tiny, tmp_path, Limits(free_bytes=0, connections=3), backend=BACKEND) as studio:
        studio.alive()
        held = [socket.create_connection(("127.0.0.1", studio.port)) for _ in range(2)]
        status, answer = raw(studio, head(studio))
        assert status == 503 and b"retry-after: 5\r\n" in answer.lower(), answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "busy"
        for each in held:
            each.close()
        studio.alive()
        assert raw(studio, head(studio))[0] == 200


FORMS: dict[str, tuple[int, bytes | Callable[[], bytes]]] = {
    "no parts": (400, b"--b--\r\n"),
    "nothing": (400, b""),
    "noise": (400, bytes(range(256)) * 40),
    "a part without a name": (400, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
    "a part without headers": (400, b"--b\r\n\r\nx\r\n--b--\r\n"),
    "a part that does not end": (400, b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nonly drums'),
    "a file that does not end": (400, part("file", wav(), '; filename="a.wav"')[:-10]),
    "no file": (400, part("prompt", b"only drums") + b"--b--\r\n"),
    "no prompt": (400, part("file", wav(), '; filename="a.wav"') + b"--b--\r\n"),
    "two files": (400, part("file", wav(), '; filename="a.wav"') * 2 + b"--b--\r\n"),
    "the file under another name": (400, part("clip", wav(), '; filename="a.wav"') + b"--b--\r\n"),
    "a file without a name": (400, part("file", b"RIFF") + part("prompt", b"x") + b"--b--\r\n"),
    "a field twice": (400, part("prompt", b"a") * 2 + b"--b--\r\n"),
    "a field too large": (400, part("prompt", b"a" * 100_000) + b"--b--\r\n"),
    "thousands of fields": (400, b"".join(part(f"f{n}", b"") for n in range(5000)) + b"--b--\r\n"),
    "a part with thousands of headers": (400, b"--b\r\n" + HEADER.encode() * 500 + b"\r\nx\r\n--b--\r\n"),
    "a header without end": (400, b"--b\r\nX: " + b"y" * 2_000_000),
    "a prompt that is no text": (400, whole(wav(), prompt=b"\xed\xa0\x80\x00")),
    "more bytes than are taken": (413, whole(bytes(5 << 20))),
    "an empty file": (400, whole(b"")),
    "a text": (400, whole(b"Hello, this is no sound. " * 100)),
    "a zip": (400, whole(b"PK\x03\x04" + bytes(2000))),
    "a pickle": (400, whole(b"\x80\x04cos\nsystem\n(S'touch /tmp/pwned'\ntR." * 30)),
    "silence": (400, whole(wave(1, 32_000, 16, bytes(64_000)))),
    "a truncated file": (400, whole(wav()[:-1000])),
    "a file that says it is huge": (400, whole(wave(2, 44_100, 16, bytes(range(256)) * 40, size=2**31 - 4096 * 32))),
    "no channels": (400, whole(wave(0, 44_100, 16, b"abcd" * 4000))),
    "60000 channels": (400, whole(wave(60_000, 44_100, 16, b"abcd" * 60_000))),
    "a rate of nothing": (400, whole(wave(1, 0, 16, b"abcd" * 4000))),
    "a rate of gigahertz": (400, whole(wave(1, 2**31 - 1, 16, b"abcd" * 4000))),
    "samples of 1e38": (400, whole(wave(1, 32_000, 32, np.full(32_000, 1e38, "<f4").tobytes(), tag=3))),
    "NaN": (400, whole(wave(1, 32_000, 32, np.full(32_000, np.nan, "<f4").tobytes(), tag=3))),
    "a bomb: minutes of FLAC in little": (400, lambda: whole(flac_of(300))),
    "a bomb: an hour of FLAC": (400, lambda: whole(flac_of(3700, 8000))),
    "a bomb: half a million joined FLACs": (400, lambda: whole(b"fLaC\x80\0\0\x22" * 500_000)),
    "a bomb of eight channels": (400, lambda: whole(flac_of(19, 48_000, 8))),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_is_no_clip_is_refused_and_leaves_nothing(studio: Running, name: str) -> None:
    status, form_of = FORMS[name]
    body = form_of if isinstance(form_of, bytes) else form_of()
    before, memory = sorted(studio.queue.store.folder.iterdir()), psutil.Process().memory_info().rss
    found, answer = raw(studio, form(studio, body))
    assert found == status, answer
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) == {"message", "type", "param"}
    assert sorted(studio.queue.store.folder.iterdir()) == before
    assert psutil.Process().memory_info().rss - memory < 200 << 20
    studio.alive()


@pytest.mark.parametrize("name", [
    "../../../etc/passwd", "..\\..\\evil.wav", "/dev/null", "a" * 3000 + ".wav", "\x01\x02.wav", "CON", '"; rm -rf /',
    "<script>alert(1)</script>.wav", ".", "",
])  # fmt: skip
def test_a_files_name_is_a_label_and_no_place(studio: Running, name: str) -> None:
    quoted = name.replace('"', "%22")
    status, answer = raw(studio, form(studio, whole(wav(0.1), quoted)))
    assert status == 202, answer
    job = json.loads(answer.partition(b"\r\n\r\n")[2])
    shown = job["input"]["name"]
    assert shown and len(shown) <= 100 and not set(shown) & set('/\\<>"') and shown.isprintable()
    names = {path.name for path in studio.queue.store.path(job["id"]).iterdir()}
    assert {"input.wav", "job.json"} <= names
    studio.done(job)


def test_many_ranges_cost_no_more_than_one(studio: Running) -> None:
    job = studio.done(studio.job(wav(0.1)))
    ranges = ",".join(f"{n}-{n}" for n in range(0, 4000, 2))
    answer = studio.client.get(job["candidates"][0]["files"]["wav"], headers={"Range": f"bytes={ranges}"})
    assert answer.status_code in (200, 206, 400, 416) and len(answer.content) < 2 << 20
    studio.alive()


@pytest.mark.parametrize(("asked", "status"), [
    ("bytes=0-" + "9" * 5000, 400), ("bytes=9-2", 400), ("items=0-1", 400), ("bytes=,,", 400),
    ("bytes=99999999999999999999-", 416),
])  # fmt: skip
def test_a_range_that_cannot_be_is_refused_as_json(studio: Running, asked: str, status: int) -> None:
    job = studio.done(studio.job(wav(0.1)))
    answer = studio.client.get(job["input"]["file"], headers={"Range": asked})
    assert answer.status_code == status and answer.json()["error"]["message"]
    assert status == 400 or answer.headers["content-range"].startswith("bytes */")


@pytest.mark.slow
def test_every_answer_is_confined(studio: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ("/", "/v1/models", "/nothing", "/page/example.flac")
    found = [studio.client.get(path).headers for path in paths]
    found.append(studio.client.get("/v1/models", headers={"Host": "elsewhere.test"}).headers)
    with monkeypatch.context() as patch:  # a fault of ours
        patch.setattr("model.studio.job_queue.JobQueue.views", lambda *_: 1 / 0)
        answer = studio.client.get("/jobs")
        assert answer.status_code == 500 and "division" not in answer.text
        assert answer.json()["error"]["type"] == "server_error"
        found.append(answer.headers)
    for begun in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: "):  # what never becomes a request
        _, said = raw(studio, begun)
        lines = said.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        found.append(httpx.Headers([tuple(line.split(": ", 1)) for line in lines]))
    for headers in found:
        assert (
            "default-src 'none'" in headers["content-security-policy"]
            and "unsafe" not in headers["content-security-policy"]
        )
        assert (
            headers["x-content-type-options"] == "nosniff" and headers["cross-origin-resource-policy"] == "same-origin"
        )
        assert "access-control-allow-origin" not in headers
