"""`edit` of long files and down pipes, as programs: killed, resumed, cut off, and in bounded memory."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from .conftest import TEXT, Run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TOOL = [sys.executable, "-m", "model.cli", "edit"]


@pytest.fixture
def around(tmp_path: Path) -> dict[str, str]:
    place = {"INSTRUCT_MUSICGEN_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return os.environ | place


def long_clip(path: Path, seconds: float) -> Path:
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * 32_000))
    soundfile.write(path, samples, 32_000)
    return path


def command(source: Path | str, bundle: Path, out: Path | str, *more: str) -> list[str]:
    return [*TOOL, str(source), "-i", TEXT, "-o", str(out), "--model", str(bundle), "--seed", "4", *more]


def test_killed_in_the_middle_and_resumed_it_has_the_same_bytes(
    tmp_path: Path, bundle: Path, around: dict[str, str]
) -> None:
    source, out = long_clip(tmp_path / "in.wav", 20), tmp_path / "out.wav"
    process = subprocess.Popen(command(source, bundle, out), env=around, stderr=subprocess.DEVNULL)
    unfinished, deadline = tmp_path / "cache" / "unfinished", time.monotonic() + 120
    try:
        while not any(file.stat().st_size > 16 * 250 for file in unfinished.glob("*.codes")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL and not out.exists()
    finally:
        process.kill()
        process.wait()
    other = command(source, bundle, out, "--resume", "--temperature", "0.5")
    refused = subprocess.run(other, env=around, capture_output=True, text=True)
    assert refused.returncode == 2 and "temperature 1.0, not 0.5" in refused.stderr
    assert refused.stderr.count("error: ") == 1 and "Traceback" not in refused.stderr and not out.exists()
    resumed = subprocess.run(command(source, bundle, out, "--resume"), env=around, capture_output=True, text=True)
    assert resumed.returncode == 0 and float(re.findall(r"--resume: ([\d.]+) s", resumed.stderr)[0]) > 4
    assert list(unfinished.iterdir()) == []
    got = out.read_bytes()
    out.unlink()
    subprocess.run(command(source, bundle, out), env=around, check=True, stderr=subprocess.DEVNULL)
    assert got == out.read_bytes()


def test_a_pipe_that_is_closed_ends_the_edit_without_a_word(
    tmp_path: Path, bundle: Path, around: dict[str, str]
) -> None:
    source = long_clip(tmp_path / "in.wav", 60)
    line = f"{shlex.join(command(source, bundle, '-', '--quiet'))} | head -c 100000 > {tmp_path / 'head'}"
    started = time.monotonic()
    done = subprocess.run(["bash", "-c", line], env=around, capture_output=True, text=True)
    early = time.monotonic() - started
    assert done.stderr == "" and (tmp_path / "head").stat().st_size == 100_000
    started = time.monotonic()
    whole = subprocess.run(command(source, bundle, "-", "--quiet"), env=around, capture_output=True, check=True)
    assert whole.stdout.startswith((tmp_path / "head").read_bytes())
    assert early < time.monotonic() - started


def test_bare_samples_down_a_pipe(tmp_path: Path, bundle: Path, around: dict[str, str]) -> None:
    source = long_clip(tmp_path / "in.wav", 1.3)
    out = [subprocess.run(command(source, bundle, "-", "--format", kind), env=around, capture_output=True, check=True)
           for kind in ("wav", "f32")]  # fmt: skip
    wav, bare = (done.stdout for done in out)
    assert wav.endswith(bare) and len(bare) == 4 * 41_600
    assert wav[:4] == b"RIFF" and int.from_bytes(wav[4:8], "little") == len(wav) - 8


@pytest.mark.parametrize(("options", "fragments"), [
    (("-o", "-", "--resume"), ("--resume", "-o -")), (("--format", "f32"), ("--format", "-o -")),
    (("--candidates", "2", "--resume"), ("--resume", "--candidates")),
])  # fmt: skip
def test_options_that_do_not_go_together(
    tmp_path: Path, bundle: Path, clip: Path, run: Run, options: tuple[str, ...], fragments: tuple[str, ...]
) -> None:
    run("edit", clip, "-i", TEXT, "-o", tmp_path / "out.wav", "--model", bundle, *options).fails(2, *fragments)


MEMORY = """
import re, sys
from pathlib import Path
from model.audio_files import spool
spool.IN_MEMORY = 1 << 20
from model.cli import main
assert main(sys.argv[1:]) == 0
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.serial
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_memory_does_not_grow_with_the_clip(tmp_path: Path, bundle: Path, around: dict[str, str], suffix: str) -> None:
    """Four times the clip, 90 s more: its samples alone would be 11 MB, several times over in what is held of them."""
    peaks = []
    for seconds in (30, 120):
        source = long_clip(tmp_path / f"{seconds}.wav", seconds)
        argv = command(source, bundle, tmp_path / f"out.{suffix}", "--quiet")[len(TOOL) - 1 :]
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *argv], env=around, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 12, f"peaks of {peaks} MB"
