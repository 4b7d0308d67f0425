"""Clients that send or read slowly, or leave in the middle, are let go, and hold nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import BACKEND
from .hostile import LIMITS, flac_of, form, head, raw, whole
from .running import Running, running, wav


@pytest.fixture(scope="module")
def studio(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny, tmp_path_factory.mktemp("slow"), LIMITS, backend=BACKEND) as found:
        yield found


@pytest.mark.slow
def test_a_head_that_does_not_end_is_given_up(studio: Running) -> None:
    begun = time.monotonic()
    status, _ = raw(studio, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
    assert status == 408 and time.monotonic() - begun < 10
    assert raw(studio, b"") == (0, b"")
    studio.alive()


@pytest.mark.slow
def test_a_head_that_drips_is_given_up(studio: Running) -> None:
    with socket.create_connection(("127.0.0.1", studio.port), timeout=20) as connection:
        begun = time.monotonic()
        with pytest.raises(OSError):
            for byte in b"GET / HTTP/1.1\r\nX: " + b"y" * 10_000:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - begun < 10
    studio.alive()


@pytest.mark.slow
def test_a_body_that_does_not_come_is_given_up_and_its_place_is_free(studio: Running) -> None:
    for _ in range(LIMITS.queue + 1):
        status, answer = raw(studio, form(studio, whole(wav())[:200], length=100_000))
        assert status == 408, answer
    studio.done(studio.job(wav(0.1)))


@pytest.mark.slow
def test_a_body_that_drips_is_given_up(studio: Running) -> None:
    with socket.create_connection(("127.0.0.1", studio.port), timeout=20) as connection:
        connection.sendall(form(studio, whole(wav())[:200], length=100_000))
        begun = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(400):
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - begun < LIMITS.upload_seconds + 8
    studio.alive()


@pytest.mark.slow
def test_a_body_that_nobody_asked_for_is_not_waited_for(studio: Running) -> None:
    keep = head(studio, "GET /v1/models", "Content-Length: 1000000").replace(b"Connection: close\r\n", b"")
    status, answer = raw(studio, keep + b"x" * 100)
    assert status == 200 and answer.count(b"HTTP/1.1") == 1
    studio.alive()


@pytest.mark.slow
def test_a_client_that_reads_nothing_is_let_go(studio: Running) -> None:
    job = studio.job(flac_of(19, 44_100, 4))
    place = job["input"]["file"]
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", studio.port))
        connection.sendall(head(studio, f"GET {place}"))
        time.sleep(3 * LIMITS.stalled_seconds)
        connection.settimeout(10)
        received = 0
        with pytest.raises(OSError):
            while True:
                if not (got := len(connection.recv(1 << 16))):
                    raise ConnectionError
                received += got
        assert received < len(studio.bytes(place))
    studio.client.delete(f"/jobs/{job['id']}")
    studio.alive()


def test_a_client_that_leaves_in_its_upload_leaves_nothing(studio: Running) -> None:
    before = sorted(studio.queue.store.folder.iterdir())
    for cut in (10, 400, 5000):
        with socket.create_connection(("127.0.0.1", studio.port)) as connection:
            connection.sendall(form(studio, whole(wav(1.0)))[: 200 + cut])
            time.sleep(0.05)
    studio.done(studio.job(wav(0.1)))
    assert len(sorted(studio.queue.store.folder.iterdir())) == len(before) + 1
