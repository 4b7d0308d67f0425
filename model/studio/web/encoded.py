"""JSON that holds whole files in base64, sent piece by piece: a few edits of minutes are gigabytes at once."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from anyio import to_thread

from .streams import Stream

_PIECE = 3 << 18
"""Bytes of a file at a time: a multiple of three, so that the pieces' base64 joins to the whole file's."""


class Encoded:
    """Files to be told in a JSON text: `token(path)` stands for the base64 of one."""

    def __init__(self) -> None:
        self._files: dict[str, Path] = {}

    def token(self, path: Path) -> str:
        """Return a string that `answer` replaces by the file's base64. Raises OSError where there is no such file."""
        path.stat()
        token = secrets.token_hex(16)
        self._files[token] = path
        return token

    def answer(self, content: object, headers: Mapping[str, str]) -> Stream:
        """Answer with `content` as JSON."""
        pieces = self._split(json.dumps(content))
        length = sum(len(each) if isinstance(each, bytes) else -(-each.stat().st_size // 3) * 4 for each in pieces)
        return Stream(_parts(pieces), "application/json", {**headers, "Content-Length": str(length)})

    def _split(self, text: str) -> list[bytes | Path]:
        pieces: list[bytes | Path] = []
        for token, path in self._files.items():
            before, text = text.split(token)
            pieces += [before.encode(), path]
        return [*pieces, text.encode()]


async def _parts(pieces: list[bytes | Path]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        with piece.open("rb") as file:
            while part := await to_thread.run_sync(file.read, _PIECE):
                yield base64.b64encode(part)
