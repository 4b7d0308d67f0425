"""Requests as bytes, which no library would send, and limits that are soon reached."""

from __future__ import annotations

import io
import socket

import numpy as np
import soundfile

from model.studio.limits import Limits

from .running import Running

LIMITS = Limits(
    upload_bytes=4 << 20, upload_seconds=3, silent_seconds=0.5, header_seconds=0.7, stalled_seconds=0.7,
    clip_seconds=20, clip_samples=1 << 22, free_bytes=0, queue=4,
)  # fmt: skip


def raw(studio: Running, data: bytes, *, timeout: float = 20) -> tuple[int, bytes]:
    """Send bytes, and read what comes until the studio closes: the status (0: nothing came) and all of it."""
    with socket.create_connection(("127.0.0.1", studio.port), timeout=timeout) as connection:
        found = b""
        try:
            connection.sendall(data)
            while part := connection.recv(1 << 16):
                found += part
        except ConnectionError:
            pass
    return (int(found.split(b" ")[1]) if found else 0), found


def head(studio: Running, line: str = "GET /v1/models", *more: str, host: str | None = None) -> bytes:
    """A request's head that asks to close."""
    lines = [f"{line} HTTP/1.1", f"Host: {host or f'127.0.0.1:{studio.port}'}", "Connection: close", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def form(studio: Running, body: bytes, *more: str, length: int | None = None, boundary: str = "b") -> bytes:
    size = len(body) if length is None else length
    kind = f"Content-Type: multipart/form-data; boundary={boundary}"
    return head(studio, "POST /jobs", kind, f"Content-Length: {size}", *more) + body


def part(name: str, value: bytes, extra: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"


def whole(file: bytes = b"", name: str = "clip.wav", prompt: bytes = b"only drums") -> bytes:
    return part("file", file, f'; filename="{name}"') + part("prompt", prompt) + b"--b--\r\n"


def flac_of(seconds: float, rate: int = 8000, channels: int = 1) -> bytes:
    """Little data that decodes to much: a constant."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, channels, "PCM_16", format="FLAC") as opened:
        for _ in range(int(seconds)):
            opened.write(np.full((rate, channels), 0.25))
    return file.getvalue()
