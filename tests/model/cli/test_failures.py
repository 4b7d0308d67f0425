"""What can go wrong while working: one line, exit code 1 (130 for Ctrl-C), nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile

import kernels

from .conftest import GOLDEN, TEXT, Run

ROOT = Path(__file__).parents[3]


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def rewrite(bundle: Path, change: Callable[[dict[str, mx.array]], object]) -> None:
    path = bundle / "model.safetensors"
    tensors = mx.load(str(path))
    assert isinstance(tensors, dict)
    mx.eval(tensors)
    change(tensors)
    mx.save_safetensors(str(path), tensors)


def edit(clip: Path, bundle: Path | str) -> tuple[str | Path, ...]:
    return "edit", clip, "-i", TEXT, "-o", clip.parent / "out.wav", "--model", bundle, "--backend", "reference"


@pytest.mark.parametrize(("content", "fragment"), [
    (None, "no such file"), (b"", "empty file"), (b"no music" * 99, "not audio"),
])  # fmt: skip
def test_unreadable_audio(tmp_path: Path, run: Run, content: bytes | None, fragment: str) -> None:
    if content is not None:
        (tmp_path / "in.wav").write_bytes(content)
    run("edit", tmp_path / "in.wav", "-i", TEXT, "-o", tmp_path / "out.wav").fails(1, "in.wav", fragment)
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize(("samples", "fragment"), [
    (np.zeros(0), "zero length"), (np.zeros(32_000), "silent"), (np.full(32_000, np.nan), "NaN"),
    (np.array([0.1, np.inf] * 999), "infinite"), (np.full(639, 0.5), "shorter than one codec frame"),
])  # fmt: skip
def test_unusable_audio(tmp_path: Path, run: Run, samples: np.ndarray, fragment: str) -> None:
    soundfile.write(tmp_path / "in.wav", samples, 32_000, subtype="FLOAT")
    run("edit", tmp_path / "in.wav", "-i", TEXT, "-o", tmp_path / "out.wav").fails(1, "in.wav", fragment)
    assert os.listdir(tmp_path) == ["in.wav"]


DAMAGE: dict[str, tuple[Callable[[dict[str, mx.array]], object], str]] = {
    "missing": (lambda t: t.pop("layers.1.linear1.weight"), "missing: layers.1.linear1.weight"),
    "extra": (lambda t: t.update({"layers.9.linear1.weight": mx.zeros((2, 2))}), "layers.9.linear1.weight"),
    "mis-shaped": (lambda t: t.update({"out_norm.weight": mx.ones(63)}), "out_norm.weight [63], needs [64]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_tensors(clip: Path, copy: Path, run: Run, damage: str) -> None:
    change, fragment = DAMAGE[damage]
    rewrite(copy, change)
    run(*edit(clip, copy)).fails(1, fragment)
    run("info", copy).fails(1, fragment)


def test_truncated_safetensors(clip: Path, copy: Path, run: Run) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    run(*edit(clip, copy)).fails(1, "model.safetensors")


def test_config_that_contradicts_the_weights(clip: Path, copy: Path, run: Run) -> None:
    config = json.loads((copy / "config.json").read_text())

    def deepen(node: object) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("num_hidden_layers", "num_layers", "layers") and value == 3:
                    node[key] = 4
                deepen(value)

    deepen(config)
    (copy / "config.json").write_text(json.dumps(config))
    run(*edit(clip, copy)).fails(1, "copy", "missing")


def test_no_bundle_there(clip: Path, tmp_path: Path, run: Run) -> None:
    run(*edit(clip, tmp_path / "nothing")).fails(1, "nothing does not exist")
    (tmp_path / "empty").mkdir()
    run(*edit(clip, tmp_path / "empty")).fails(1, "empty")


def test_unknown_repo_without_network(clip: Path, run: Run) -> None:
    run(*edit(clip, "nobody-at-all/no-such-model")).fails(1, "nobody-at-all/no-such-model", "cannot be reached")


def test_backend_that_cannot_run_here(clip: Path, bundle: Path, run: Run) -> None:
    if mx.metal.is_available():
        pytest.skip("this machine has a Metal GPU")
    run("edit", clip, "-i", TEXT, "-o", clip.parent / "out.wav", "--model", bundle, "--backend", "metal").fails(
        1, "backend 'metal' cannot run here", "native"
    )


@pytest.mark.slow
@pytest.mark.skipif(mx.metal.is_available(), reason="auto takes the GPU here")
def test_without_a_fused_backend_one_line_warns(clip: Path, bundle: Path) -> None:
    """The reference runs instead; the reason it gives is the native backend's own."""
    command = edit(clip, bundle)[:-2]
    done = _program(*command, "--max-steps", "5", env=os.environ | {"INSTRUCT_MUSICGEN_ACTIVATIONS": "int3"})
    warning, *others = done.stderr.splitlines()
    assert warning.startswith("warning: no fused backend: ") and "INSTRUCT_MUSICGEN_ACTIVATIONS='int3'" in warning
    assert done.returncode == 0 and "backend reference" in done.stdout and not any("arning" in o for o in others)


@pytest.mark.parametrize("out", ["absent/out.wav", "file/out.wav", "/proc/out.wav"])
def test_output_that_cannot_be_written_is_refused_before_the_work(
    clip: Path, tmp_path: Path, run: Run, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(kernels, "load", lambda name: pytest.fail("the model was loaded first"))
    run("edit", clip, "-i", TEXT, "-o", tmp_path / out).fails(1, "cannot be written", out)


class _Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.witness),)


def convert(out: Path, **changes: Path) -> list[str | Path]:
    sources = {"adapter": GOLDEN / "upstream.ckpt", "base": GOLDEN / "base", "t5": GOLDEN / "t5", **changes}
    return ["convert", "--out", out, *(part for name, path in sources.items() for part in (f"--{name}", path))]


def test_malicious_checkpoint_runs_nothing(tmp_path: Path, run: Run) -> None:
    witness = tmp_path / "it ran"
    with zipfile.ZipFile(tmp_path / "evil.ckpt", "w") as z:
        z.writestr("evil/data.pkl", pickle.dumps({"state_dict": _Evil(witness)}, protocol=2))
        z.writestr("evil/version", "3\n")
    run(*convert(tmp_path / "out", adapter=tmp_path / "evil.ckpt")).fails(1, "evil.ckpt")
    assert not witness.exists() and sorted(os.listdir(tmp_path)) == ["evil.ckpt"]


def test_group_size_that_does_not_divide(tmp_path: Path, run: Run) -> None:
    """Golden A's features are 64; groups of 128 do not fit."""
    run(*convert(tmp_path / "out"), "--group-size", "128").fails(2, "128", "64")
    assert os.listdir(tmp_path) == []


def _limit_files(size: int) -> Callable[[], None]:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def _program(*argv: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model.cli", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)  # type: ignore[call-overload]


@pytest.mark.slow
def test_disk_full_during_convert_leaves_nothing(tmp_path: Path) -> None:
    """A process that may write 256 KiB a file stands for a full disk: write(2) fails after that."""
    done = _program(*convert(tmp_path / "out"), "--bits", "32", preexec_fn=_limit_files(1 << 18))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_disk_full_during_edit_leaves_nothing(clip: Path, bundle: Path) -> None:
    done = _program(*edit(clip, bundle), preexec_fn=_limit_files(1 << 12))
    assert done.returncode == 1 and "error: " in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert "cannot be written" in done.stderr and os.listdir(clip.parent) == [clip.name]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting a small disk needs root")
def test_small_disk(tmp_path: Path, run: Run) -> None:
    """The same on a true file system of 512 KiB, full before the bundle is whole."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.strip()}")
    try:
        run(*convert(disk / "out"), "--bits", "32").fails(1)
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("sending", [signal.SIGINT])
def test_ctrl_c_during_generation(clip: Path, bundle: Path, sending: signal.Signals) -> None:
    """A minute of audio, interrupted once the bar on the terminal shows steps being made."""
    samples, rate = soundfile.read(clip)
    source = clip.parent / "long.wav"
    soundfile.write(source, np.tile(samples, 200), rate)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "model.cli", *map(str, edit(source, bundle))], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(theirs)
    try:
        seen = _read_until(ours, b"editing")
        process.send_signal(sending)
        seen += _read_until(ours, None)
        assert process.wait(timeout=60) == 130, seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"error: interrupted" in seen and b"Traceback" not in seen, seen
    assert process.stdout is not None and process.stdout.read() == b""
    assert sorted(os.listdir(clip.parent)) == ["clip.wav", "long.wav"]


def _read_until(descriptor: int, marker: bytes | None) -> bytes:
    """What comes until the marker does, or until the other end is closed."""
    seen, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            seen += os.read(descriptor, 4096)
        except OSError:  # closed
            assert marker is None, seen
            return seen
        if marker is not None and marker in seen:
            return seen
    raise AssertionError(f"timed out: {seen!r}")


@pytest.mark.parametrize("kind", ["fifo", "endless", "directory"])
def test_files_without_an_end_are_not_read(tmp_path: Path, copy: Path, clip: Path, run: Run, kind: str) -> None:
    make = {"fifo": os.mkfifo, "endless": lambda path: path.symlink_to("/dev/zero"), "directory": Path.mkdir}[kind]
    for name in ("config.json", "t5/config.json", "model.safetensors", "compression_state_dict.bin"):
        kept = (copy / name).read_bytes()
        (copy / name).unlink()
        make(copy / name)
        out = clip.parent / "out.wav"
        run("edit", clip, "-i", TEXT, "-o", out, "--model", copy).fails(1, name.rpartition("/")[2])
        assert not out.exists()
        (copy / name).rmdir() if kind == "directory" else (copy / name).unlink()
        (copy / name).write_bytes(kept)


def test_names_that_are_no_text(tmp_path: Path, bundle: Path, clip: Path, run: Run) -> None:
    source, out = (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + name)) for name in (b".wav", b"out.wav"))
    shutil.copy(clip, source)
    done = run("edit", source, "-i", TEXT, "-o", out, "--model", bundle, "--backend", "reference", "--max-steps", "2")
    assert done.code == 0 and out.exists()
