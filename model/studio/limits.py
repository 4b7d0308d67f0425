"""The most that the studio takes from anybody."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of requests, of clips and of what waits."""

    upload_bytes: int = 256 << 20
    """Of a request's body."""
    upload_seconds: float = 300
    """That a request's body may take to arrive."""
    silent_seconds: float = 20
    """Without a byte of a body that is awaited."""
    header_seconds: float = 10
    """That a request's head may take to arrive, and that a connection may do nothing before it."""
    stalled_seconds: float = 120
    """That a client may leave what was sent to it unread."""
    connections: int = 128
    """Open at a time, those that wait for a job's events included; macOS gives a program 256 files."""
    decode_seconds: float = 60
    """That decoding an upload may take."""
    clip_seconds: float = 600
    """Of what is edited."""
    clip_samples: int = 1 << 25
    """Of what is edited, all channels counted: 128 MB of float32, over six minutes of a CD's stereo."""
    prompt: int = 1000
    """Characters."""
    candidates: int = 8
    """Edits of a job: with guidance, as many as a decode step runs together."""
    queue: int = 16
    """Jobs that wait, those whose clip is still being uploaded included."""
    tries: int = 3
    """Starts of a job in whose course the studio was killed, until it is not begun again."""
    free_bytes: int = 1 << 30
    """That the disk keeps free: with less, no job is taken."""
