"""The limits of what the studio takes from anybody."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of requests, of clips and of what waits."""

    upload_bytes: int = 256 << 20
    """Bytes of a request's body."""
    upload_seconds: float = 300
    """Seconds that a request's body may take to arrive."""
    silent_seconds: float = 20
    """Seconds without a byte of a body that is awaited."""
    header_seconds: float = 10
    """Seconds that a request's head may take to arrive, and that a connection may be idle before it."""
    stalled_seconds: float = 120
    """Seconds that a client may leave what was sent to it unread."""
    connections: int = 128
    """Connections open at a time, those that wait for a job's events included; macOS gives a program 256 files."""
    decode_seconds: float = 60
    """Seconds that decoding an upload may take."""
    clip_seconds: float = 600
    """Seconds of a clip, or of the region that is edited."""
    clip_samples: int = 1 << 25
    """Samples that are edited, all channels counted: 128 MB of float32, over six minutes of a CD's stereo."""
    prompt: int = 1000
    """Characters of a sentence."""
    candidates: int = 8
    """Edits of a job: with guidance, as many as a decode step runs together."""
    queue: int = 16
    """Jobs that wait, those whose clip is still being uploaded included."""
    tries: int = 3
    """Times that a job is started, where the studio is killed while it runs; after that it is given up."""
    free_bytes: int = 1 << 30
    """Bytes that must stay free on the disk: with less, no job is taken."""
