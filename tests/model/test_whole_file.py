"""model.whole_file: whole or not at all, and never in the place of something that is no file."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from model import audio, whole_file
from model.errors import UserError


def test_all_or_none(tmp_path: Path) -> None:
    old, blocked = tmp_path / "old.txt", tmp_path / "old.txt" / "below a file.txt"
    assert whole_file.write_whole({old: "before", tmp_path / "new" / "b.bin": b"\0"}) == [
        old,
        tmp_path / "new" / "b.bin",
    ]
    with pytest.raises(UserError, match=r"cannot write .*below a file"):
        whole_file.write_whole({old: "after", blocked: "never"})
    assert old.read_text() == "before" and sorted(p.name for p in tmp_path.iterdir()) == ["new", "old.txt"]


def test_an_interrupt_while_writing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    whole_file.write_whole({path: "before"})

    def interrupted(descriptor: int) -> None:
        assert len(list(tmp_path.iterdir())) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        whole_file.write_whole({path: "after"})
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_text_is_utf8_in_any_locale(tmp_path: Path) -> None:
    whole_file.write_whole({tmp_path / "a.md": "±3 µs"})
    assert (tmp_path / "a.md").read_bytes() == "±3 µs".encode()


@pytest.mark.parametrize("kind", ["folder", "socket"])
def test_what_is_no_plain_file_stays(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    place = tmp_path / "place"
    place.mkdir() if kind == "folder" else socket.socket(socket.AF_UNIX).bind("place")
    link = tmp_path / "link"
    link.symlink_to(place)
    for path in (place, link):
        for act in (
            lambda path=path: whole_file.write_whole({path: "x"}),
            lambda path=path: whole_file.check_writable(path),
        ):
            with pytest.raises(UserError, match=f"{path}: it is .*; name a file"):
                act()
    assert not place.is_file() and link.is_symlink() and len(list(tmp_path.iterdir())) == 2


def test_a_link_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    whole_file.write_whole({link: "x"})
    assert link.is_symlink() and (tmp_path / "real").read_text() == "x"


def _as_nobody(job: Callable[[], None]) -> None:
    """Run it in a child that is not root, to which a mode means something. Raises where it raised."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65_534)
                os.setuid(65_534)
            job()
            os._exit(0)
        except BaseException as e:
            print(repr(e), file=sys.stderr)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a text": lambda path: whole_file.write_whole({path: "new"}),
    "sound": lambda path: audio.save(path, np.zeros(640, np.float32), 32_000),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o666])
def test_a_file_that_is_replaced_leaves_its_mode(tmp_path: Path, writer: str, mode: int) -> None:
    path = tmp_path / "a.wav"
    path.write_text("old")
    path.chmod(mode)
    WRITERS[writer](path)
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() != b"old"
    assert os.listdir(tmp_path) == ["a.wav"]


def test_what_is_private_is_never_readable_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.touch(0o600)
    seen: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda d: seen.append(stat.S_IMODE(os.fstat(d).st_mode)))
    whole_file.write_whole({path: "secret"})
    assert seen == [0o600]


@pytest.mark.parametrize("act", [lambda p: whole_file.write_whole({p: "new"}), whole_file.check_writable])
def test_a_write_protected_file_is_refused(shared: Path, act: Callable[[Path], object]) -> None:
    path = shared / "a"
    path.write_text("old")
    path.chmod(0o444)

    def job() -> None:
        with pytest.raises(UserError, match="write-protected"):
            act(path)

    _as_nobody(job)
    assert path.read_text() == "old" and os.listdir(shared) == ["a"]


def test_a_file_in_a_write_protected_folder_is_written_in_its_place(shared: Path) -> None:
    (shared / "a").write_text("old")
    (shared / "a").chmod(0o666)
    shared.chmod(0o555)

    def job() -> None:
        whole_file.check_writable(shared / "a")
        whole_file.write_whole({shared / "a": "new"})
        with pytest.raises(UserError, match="cannot write"):
            whole_file.check_writable(shared / "b")

    _as_nobody(job)
    assert (shared / "a").read_text() == "new" and os.listdir(shared) == ["a"]
    shared.chmod(0o777)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
def test_a_mounted_file_is_written_in_its_place(tmp_path: Path) -> None:
    for name in ("inside", "outside"):
        (tmp_path / name).write_text("old")
    mounted = subprocess.run(["mount", "--bind", tmp_path / "outside", tmp_path / "inside"], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr!r}")
    try:
        whole_file.check_writable(tmp_path / "inside")
        whole_file.write_whole({tmp_path / "inside": "new"})
        assert (tmp_path / "outside").read_text() == "new" and sorted(os.listdir(tmp_path)) == ["inside", "outside"]
    finally:
        subprocess.run(["umount", tmp_path / "inside"], check=True)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_pipe_is_written_into(tmp_path: Path, writer: str) -> None:
    """Also under a name without an extension, as a shell's >(...) has: sound is WAV there."""
    pipe, plain = tmp_path / "pipe", tmp_path / "plain.wav"
    os.mkfifo(pipe)
    whole_file.check_writable(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    WRITERS[writer](pipe)
    reader.join(30)
    WRITERS[writer](plain)
    assert got == [plain.read_bytes()] and stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["pipe", "plain.wav"]


def test_a_device_is_written_into_and_a_full_one_is_an_error() -> None:
    before = os.stat("/dev/null")
    whole_file.check_writable(Path("/dev/null"))
    whole_file.write_whole({Path("/dev/null"): "x"})
    assert os.stat("/dev/null") == before
    with pytest.raises(UserError, match="cannot write /dev/full: No space left"):
        whole_file.write_whole({Path("/dev/full"): "x"})


def test_where_a_pipe_breaks_no_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    with pytest.raises(UserError):
        whole_file.write_whole({tmp_path / "old": "new", Path("/dev/full"): "x"})
    assert (tmp_path / "old").read_text() == "old" and os.listdir(tmp_path) == ["old"]


@pytest.mark.parametrize("name", ["r" * 255, "\u6b4c" * 85, "a" + "\u00e9" * 127])
def test_whatever_name_the_disk_takes_can_be_written(tmp_path: Path, name: str) -> None:
    whole_file.check_writable(tmp_path / name)
    whole_file.write_whole({tmp_path / name: "x"})
    assert os.listdir(tmp_path) == [name]
    sound = name.encode()[:251].decode(errors="ignore") + ".wav"
    audio.save(tmp_path / sound, np.zeros(640, np.float32), 32_000)
    assert (tmp_path / sound).exists()
    with pytest.raises(UserError, match=r"[Ff]ile name too long"):
        whole_file.write_whole({tmp_path / (name + "x"): "x"})
    with pytest.raises(UserError, match=r"[Ff]ile name too long"):
        whole_file.check_writable(tmp_path / (name + "x"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_while_writing_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_text("old")
    script = (
        "import os, sys, signal\nfrom pathlib import Path\nfrom model import whole_file\n"
        f"os.fsync = lambda d: os.kill(os.getpid(), signal.{name})\n"
        "whole_file.write_whole({Path(sys.argv[1]): 'new'})"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "a"], cwd=Path(__file__).parents[2])
    assert done.returncode == 128 + getattr(signal, name)
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]
