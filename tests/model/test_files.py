"""model.files: whole or not at all, and never in the place of something that is no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model import files
from model.errors import UserError


def test_all_or_none(tmp_path: Path) -> None:
    old, blocked = tmp_path / "old.txt", tmp_path / "old.txt" / "below a file.txt"
    assert files.write_whole({old: "before", tmp_path / "new" / "b.bin": b"\0"}) == [old, tmp_path / "new" / "b.bin"]
    with pytest.raises(UserError, match=r"cannot write .*below a file"):
        files.write_whole({old: "after", blocked: "never"})
    assert old.read_text() == "before" and sorted(p.name for p in tmp_path.iterdir()) == ["new", "old.txt"]


def test_an_interrupt_while_writing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    files.write_whole({path: "before"})

    def interrupted(descriptor: int) -> None:
        assert len(list(tmp_path.iterdir())) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_whole({path: "after"})
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_text_is_utf8_in_any_locale(tmp_path: Path) -> None:
    files.write_whole({tmp_path / "a.md": "±3 µs"})
    assert (tmp_path / "a.md").read_bytes() == "±3 µs".encode()


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_plain_file_stays(kind: str, tmp_path: Path) -> None:
    """A device (/dev/null) is one too: root could replace it by a file."""
    place = tmp_path / "place"
    place.mkdir() if kind == "folder" else os.mkfifo(place)
    link = tmp_path / "link"
    link.symlink_to(place)
    for path in (place, link):
        for act in (lambda path=path: files.write_whole({path: "x"}), lambda path=path: files.check_writable(path)):
            with pytest.raises(UserError, match=f"{path}: it is .*; name a file"):
                act()
    assert not place.is_file() and link.is_symlink() and len(list(tmp_path.iterdir())) == 2


def test_a_link_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    files.write_whole({link: "x"})
    assert link.is_symlink() and (tmp_path / "real").read_text() == "x"
