"""The command line in odd surroundings: pipes, closed streams, forced colors, other locales, signals."""

from __future__ import annotations

import io
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from model.bundle import hub
from model.cli import arguments, shared_options

from .conftest import GOLDEN, TEXT, Run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TOOL = [sys.executable, "-m", "model.cli"]
QUICK = ("-i", TEXT, "--max-steps", "2", "--backend", "reference")


def program(*argv: str | Path, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[Any]:
    around = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)} | (env or {})
    command = [*TOOL, *map(str, argv)]
    return subprocess.run(command, env=around, **({"capture_output": True} | options))


def test_a_clip_comes_from_standard_input_and_goes_to_standard_output(tmp_path: Path, bundle: Path, clip: Path) -> None:
    """The bytes of a file that is made of the same input; of a named one the tags would say the name."""
    content = clip.read_bytes()
    run = program("edit", "-", *QUICK, "-o", tmp_path / "want.wav", "--model", bundle, input=content)
    assert run.returncode == 0, run.stderr
    named = program("edit", clip, *QUICK, "-o", tmp_path / "named.wav", "--model", bundle)
    assert named.returncode == 0, named.stderr
    samples = [soundfile.read(tmp_path / name, dtype="float32")[0].tobytes() for name in ("want.wav", "named.wav")]
    assert samples[0] == samples[1]
    piped = program("edit", "-", *QUICK, "-o", "-", "--model", bundle, input=clip.read_bytes())
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout == (tmp_path / "want.wav").read_bytes()
    assert b"standard output: 0.04 s at 32000 Hz" in piped.stderr
    quiet = program("edit", "-", *QUICK, "-o", "-", "--model", bundle, "--quiet", input=clip.read_bytes())
    assert (quiet.stdout, quiet.stderr) == (piped.stdout, b"")
    assert len(soundfile.read(io.BytesIO(piped.stdout))[0]) == 1280


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(tmp_path: Path, bundle: Path, clip: Path, redirection: str) -> None:
    """A file that is opened must not take a closed stream's place: reports would go into it."""
    command = [*TOOL, "edit", clip, *QUICK, "-o", tmp_path / "out.wav", "--model", bundle]
    line = f"{shlex.join(map(str, command))} {redirection}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(line, shell=True, env=environment, stdin=subprocess.DEVNULL).returncode == 0
    assert len(soundfile.read(tmp_path / "out.wav")[0]) == 1280


def test_a_closed_standard_input_cannot_be_edited(bundle: Path) -> None:
    command = shlex.join(map(str, [*TOOL, "edit", "-", *QUICK, "-o", "x.wav", "--model", bundle]))
    done = subprocess.run(f"{command} <&-", shell=True, capture_output=True, cwd=ROOT)
    assert done.returncode in (1, 2) and done.stderr.count(b"\n") == 1 and b"standard input" in done.stderr


def test_a_full_device_for_the_report_is_one_line(tmp_path: Path, bundle: Path, clip: Path) -> None:
    with open("/dev/full", "w") as full:
        done = program("edit", clip, *QUICK, "-o", tmp_path / "out.wav", "--model", bundle, stdout=full,
                       stderr=subprocess.PIPE, capture_output=False)  # fmt: skip
    assert done.returncode == 1 and done.stderr.rpartition(b"error: ")[2].count(b"\n") == 1
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("forced", [{"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"TERM": "xterm-256color"}])
def test_bars_never_reach_a_file(tmp_path: Path, bundle: Path, clip: Path, forced: dict[str, str]) -> None:
    done = program("edit", clip, *QUICK, "-o", tmp_path / "out.wav", "--model", bundle, env=forced)
    assert done.returncode == 0 and b"\r" not in done.stderr and b"\x1b[" not in done.stderr, done.stderr
    argv = ("--adapter", GOLDEN / "upstream.ckpt", "--base", GOLDEN / "base", "--t5", GOLDEN / "t5")
    done = program("convert", *argv, "--out", tmp_path / "new", env=forced)
    assert done.returncode == 0 and b"\r" not in done.stderr and b"\x1b[" not in done.stderr, done.stderr


@pytest.mark.parametrize(("term", "moves"), [("dumb", False), ("xterm", True)])
def test_bars_need_a_terminal_that_moves_its_cursor(
    tmp_path: Path, bundle: Path, clip: Path, term: str, moves: bool
) -> None:
    ours, theirs = pty.openpty()
    environment = {"TERM": term, "NO_COLOR": "", "COLUMNS": "100"}
    done = program("edit", clip, "-i", TEXT, "-o", tmp_path / "out.wav", "--model", bundle, "--backend", "reference",
                   env=environment, stdout=subprocess.PIPE, stderr=theirs, capture_output=False)  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65_536):
            seen += chunk
    except OSError:  # the other end is closed
        os.close(ours)
    assert done.returncode == 0 and (b"\x1b[" in seen) is moves, seen


def test_an_instruction_in_utf_8_is_taken_in_the_c_locale(tmp_path: Path, bundle: Path, clip: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    text = "Music piece. Instruct: Nur Höhen ♫."
    for name, around in (("c.wav", plain), ("u.wav", {"LC_ALL": "C.UTF-8"})):
        done = program("edit", clip, "-i", text, "-o", tmp_path / name, "--model", bundle, "--backend", "reference",
                       "--max-steps", "2", env=around)  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "c.wav").read_bytes() == (tmp_path / "u.wav").read_bytes()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU", "SIGQUIT", "SIGALRM"])
def test_a_signal_that_ends_the_conversion_leaves_nothing(tmp_path: Path, name: str) -> None:
    """It is stopped while its folder is there and half full, then told to end."""
    number = getattr(signal, name)
    hold = (
        "import sys, time; from model.formats import tensor_writer as w; from model.cli import main\n"
        "write = w.TensorWriter.write\n"
        "def slow(*a):\n    time.sleep(0.2); return write(*a)\n"
        "w.TensorWriter.write = slow\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    argv = ["--adapter", GOLDEN / "upstream.ckpt", "--base", GOLDEN / "base", "--t5", GOLDEN / "t5"]
    command = [sys.executable, "-c", hold, "convert", *map(str, argv), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 60
        while not os.listdir(tmp_path) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)
        assert process.poll() is None and os.listdir(tmp_path)
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    finally:
        process.kill()
        process.wait()
    assert os.listdir(tmp_path) == []


def test_nohup_is_respected(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom model.system.signals import ending_cleanly\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with ending_cleanly():\n    os.kill(os.getpid(), signal.SIGHUP)\nprint('alive')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_the_demo_bundle_is_named_with_quiet_too(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("model.bundle.hub.cached", lambda name: False)
    clip = ROOT / "model" / "demo" / "clip.flac"
    done = run("edit", clip, "-i", TEXT, "-o", tmp_path / "o.wav", "--max-steps", "2", "--quiet")
    assert (
        done.code == 0
        and done.out == ""
        and done.err.count("\n") == 1
        and "the small demo that ships with this program" in done.err
    )


def test_half_a_download_is_not_taken_for_none(
    tmp_path: Path, clip: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = tmp_path / "cache" / "models--aufklarer--Instruct-MusicGen-MLX-4bit"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(repo.parent))
    commit = "0" * 40
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit / "config.json").write_text("{}")
    done = run("edit", clip, "-i", TEXT, "-o", clip.parent / "o.wav", "--quiet")
    done.fails(1, "only partly in the cache", shared_options.DEFAULT_REPO, "--model")
    assert not (clip.parent / "o.wav").exists()
    assert hub.partly_cached("someone/else") == ""


@pytest.mark.parametrize("value", ["-1e1", "-1E+1", "-.5e1", "-10.", "-10"])
def test_negative_numbers_of_every_form_are_numbers(value: str) -> None:
    parsed = arguments.parse(["edit", "a", "-i", "x", "-o", "b", "--guidance", value])
    assert parsed.guidance == float(value)


@pytest.mark.parametrize("value", ["-nan", "-NaN"])
def test_what_is_no_finite_number_is_named(run: Run, value: str) -> None:
    run("edit", "a", "-i", "x", "-o", "b", "--guidance", value).fails(2, f"{value} is not finite")


def test_a_random_seed_is_told_and_gives_the_same_again(tmp_path: Path, bundle: Path, clip: Path, run: Run) -> None:
    command = ("edit", clip, *QUICK, "--model", bundle, "-o")
    first = run(*command, tmp_path / "a.wav", "--seed", "random")
    seed = first.err.partition("--seed ")[2].split()[0]
    again = run(*command, tmp_path / "b.wav", "--seed", seed)
    other = run(*command, tmp_path / "c.wav", "--seed", "random")
    assert first.code == again.code == other.code == 0 and 0 <= int(seed) < 2**64
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert f"--seed {seed} " not in other.err


@pytest.mark.parametrize("out", ["~/bundle", "my bundle", "it's [1]", "~no-such-user"])
def test_the_hint_of_convert_can_be_pasted(tmp_path: Path, out: str) -> None:
    """One rule for a tilde everywhere, with and without a shell."""
    (tmp_path / "home").mkdir()
    around = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    argv = ("--adapter", GOLDEN / "upstream.ckpt", "--base", GOLDEN / "base", "--t5", GOLDEN / "t5")
    done = program("convert", *argv, f"--out={out}", env=around, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    hint = done.stdout.decode().rpartition("instruct-musicgen ")[2].strip()
    line = f"{shlex.join(TOOL)} {hint}"
    shown = subprocess.run(line, shell=True, env=os.environ | around, cwd=tmp_path, capture_output=True)
    assert shown.returncode == 0, (hint, shown.stderr)
    where = tmp_path / "home" / "bundle" if out.startswith("~/") else tmp_path / out
    assert (where / "config.json").exists()


def test_channels_that_become_mono_are_said_once(tmp_path: Path, bundle: Path, run: Run) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 6400)
    for right, warned in ((noise[::-1], False), (-1.003 * noise, True)):
        soundfile.write(tmp_path / "in.wav", np.stack([noise, right], 1), 32_000, subtype="FLOAT")
        done = run("edit", tmp_path / "in.wav", *QUICK, "-o", tmp_path / "o.wav", "--model", bundle)
        assert done.code == 0 and done.err.count("mixed to mono.") == 1
        assert ("warning: " in done.err and "nearly cancel" in done.err) is warned
