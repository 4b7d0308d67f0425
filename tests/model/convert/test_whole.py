"""Conversion writes the whole bundle or nothing: full disks, write errors, signals."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model import whole_folder
from model.bundle.bundle import open_bundle
from model.convert import convert as convert_module
from model.convert.convert import convert
from model.errors import UserError
from model.formats import tensor_writer as writer

from ..conftest import GOLDEN
from .upstream_files import ROOT, UPSTREAM

pytestmark = pytest.mark.slow


def test_an_old_bundle_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(**UPSTREAM, out=out, bits=32)
    convert(**UPSTREAM, out=out, bits=4)
    assert open_bundle(out).config.quantization is not None
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"not \(only\) a bundle"):
        convert(**UPSTREAM, out=out, bits=32)
    assert (out / "notes.txt").read_text() == "mine" and open_bundle(out).config.quantization is not None
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="not a folder"):
        convert(**UPSTREAM, out=tmp_path / "file", bits=32)
    (tmp_path / "empty").mkdir()
    convert(**UPSTREAM, out=tmp_path / "empty", bits=32)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "out"]


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(UserError, match=r"the disk is full: .* has 1 MB free and \d+ MB are needed"):
        convert(**UPSTREAM, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["tensors", "codec", "t5"])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if stage == "tensors":
        original = writer.TensorWriter.write

        def write(self: writer.TensorWriter, name: str, value: Any) -> None:
            full() if name.startswith("layers.2") else original(self, name, value)

        monkeypatch.setattr(writer.TensorWriter, "write", write)
    else:
        monkeypatch.setattr(convert_module, "_copy_codec" if stage == "codec" else "_copy", full)
    with pytest.raises(UserError, match="the disk is full: cannot write") as caught:
        convert(**UPSTREAM, out=tmp_path / "out")
    assert not list(tmp_path.iterdir()) and "\n" not in str(caught.value)


CONVERT = """
import sys
from model.convert.convert import convert
from model.errors import UserError
g = sys.argv[1]
try:
    convert(adapter=g + "/upstream.ckpt", base=g + "/base", t5=g + "/t5", out=sys.argv[2], bits=32)
except UserError as e:
    sys.exit(f"error: {e}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and signals")
def test_a_real_write_error_leaves_nothing(tmp_path: Path) -> None:
    """The kernel refuses to grow a file beyond 300 kB, as it would on a full disk."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))"
    command = [sys.executable, "-c", limit + CONVERT, str(GOLDEN), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: the disk is full") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


SLOW = """
import time
from model.formats import tensor_writer as writer
write = writer.TensorWriter.write
def slow(self, name, value):
    write(self, name, value)
    if name.startswith("layers.1"):
        print("writing", flush=True)
        time.sleep(60)
writer.TensorWriter.write = slow
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_conversion_leaves_no_bundle(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW + CONVERT, str(GOLDEN), str(tmp_path / "out")], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode != 0 and not (tmp_path / "out").exists()
    if number != signal.SIGKILL:
        assert not list(tmp_path.iterdir())
        return
    # Nothing can clean up after SIGKILL but the next conversion.
    assert [p.name for p in tmp_path.iterdir()] == [f".out.part-{process.pid}"]
    convert(**UPSTREAM, out=tmp_path / "out", bits=32)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_exists_stays_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone may stand in it, or it may be mounted: the same folder before and after, empty or a bundle before."""
    out = tmp_path / "out"
    out.mkdir(0o750)
    monkeypatch.chdir(out)
    before = out.stat()
    for bits in (32, 4):
        assert convert(**UPSTREAM, out=".", bits=bits) == Path(".")
        after = Path.cwd().stat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
        assert (open_bundle(Path.cwd()).config.quantization is None) == (bits == 32)
        assert not [p.name for p in out.iterdir() if p.name.startswith(".")]
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
def test_a_mounted_folder_is_filled(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", volume], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.strip()}")
    try:
        (volume / "lost+found").mkdir()
        for bits in (32, 4):
            convert(**UPSTREAM, out=volume, bits=bits)
            open_bundle(volume)
        assert (volume / "lost+found").is_dir()
    finally:
        subprocess.run(["umount", volume], check=True)


@pytest.mark.parametrize("before", ["nothing", "a bundle"])
def test_a_failure_inside_a_folder_leaves_it_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if before == "a bundle":
        convert(**UPSTREAM, out=out, bits=32)
    kept = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    rename, calls = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 7:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        if before == "nothing":
            calls.extend([out] * 4)
        with pytest.raises(UserError, match=r"cannot write .*Input/output error"):
            convert(**UPSTREAM, out=out, bits=4)
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == kept
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("name", ["b" * 255, "\u6b4c" * 85, "[a] *?"])
def test_a_folder_of_any_name_can_be_written(tmp_path: Path, name: str) -> None:
    with whole_folder.new_folder(tmp_path / name) as part:
        (part / "config.json").touch()
    assert (tmp_path / name / "config.json").exists() and len(os.listdir(tmp_path)) == 1


def test_a_link_to_a_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    convert(**UPSTREAM, out=tmp_path / "link", bits=32)
    assert (tmp_path / "link").is_symlink() and open_bundle(tmp_path / "real")


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGXCPU", "SIGALRM"])
def test_a_signal_that_ends_a_program_cleans_up(tmp_path: Path, name: str) -> None:
    """Also without this project's command line."""
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", SLOW + CONVERT, str(GOLDEN), str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    process.send_signal(getattr(signal, name))
    process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, name) and os.listdir(tmp_path / "out") == []
