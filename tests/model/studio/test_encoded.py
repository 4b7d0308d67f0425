"""JSON with files in base64 that is never whole in memory."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
import tracemalloc
from pathlib import Path

import pytest

from model.studio.store import Store
from model.studio.web.encoded import _PIECE, Encoded


async def _sent(encoded: Encoded, content: object) -> tuple[int, bytes, int]:
    """The announced length, the body, and the longest part."""
    answer = encoded.answer(content, {})
    parts = [part async for part in answer.parts]
    return int(answer.headers["content-length"]), b"".join(parts), max(map(len, parts))


@pytest.mark.parametrize("sizes", [(0, 1), (2, 3), (4, _PIECE - 1), (_PIECE, _PIECE + 1), (2 * _PIECE + 2, 0)])
def test_it_is_the_json_of_the_files_base64(tmp_path: Path, sizes: tuple[int, int]) -> None:
    encoded, files = Encoded(), [bytes(i % 251 for i in range(size)) for size in sizes]
    for number, content in enumerate(files):
        (tmp_path / str(number)).write_bytes(content)
    asked = {"a": [{"b64": encoded.token(tmp_path / str(n)), "n": n} for n in range(2)], "é": None}
    length, body, _ = asyncio.run(_sent(encoded, asked))
    expected = {"a": [{"b64": base64.b64encode(files[n]).decode(), "n": n} for n in range(2)], "é": None}
    assert length == len(body) and json.loads(body) == expected


def test_parts_are_small_however_long_the_files(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes(20_000_000))

    async def largest() -> int:
        encoded = Encoded()
        answer = encoded.answer([encoded.token(tmp_path / "long")], {})
        return max([len(part) async for part in answer.parts])

    tracemalloc.start()
    longest = asyncio.run(largest())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert longest <= _PIECE // 3 * 4 and peak < 8_000_000


def test_a_file_that_is_not_there_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Encoded().token(tmp_path / "none")


def test_other_users_of_the_machine_cannot_read_the_edits(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    store.close()
