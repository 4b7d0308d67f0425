"""Which audio files a list of files and folders names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import UserError

SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"}


def clip_files(paths: Sequence[str | Path]) -> list[Path]:
    """Audio files, those of a folder in order of their names. UserError: there are none."""
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path} has no audio files ({', '.join(sorted(SUFFIXES))})")
        found += inside
    return found
