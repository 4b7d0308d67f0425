"""The grammar: every wrong use is one line and exit code 2, at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from model.cli import main, shared_options

from .conftest import TEXT, Run

CONVERT = ["convert", "--adapter", "a", "--base", "b", "--t5", "c", "--out", "d"]
WRONG = {
    "no command": ([], "COMMAND"),
    "unknown command": (["play"], "play"),
    "no output": (["edit", "a.wav", "-i", TEXT], "-o/--output"),
    "no instruction": (["edit", "a.wav", "-o", "b.wav"], "-i/--instruction"),
    "empty instruction": (["edit", "a.wav", "-o", "b.wav", "-i", ""], "-i/--instruction: is empty"),
    "blank instruction": (["edit", "a.wav", "-o", "b.wav", "-i", " \t\n"], "-i/--instruction: is empty"),
    "instruction not UTF-8": (["edit", "a.wav", "-o", "b.wav", "-i", "a\udcff"], "not valid text"),
    "seed": (["edit", "--seed", "-1"], "--seed: -1 must be between 0"),
    "fractional seed": (["edit", "--seed", "1.5"], "--seed: '1.5' is not a whole number"),
    "top-k": (["edit", "--top-k", "-3"], "--top-k: -3 must be at least 0"),
    "top-p": (["edit", "--top-p", "1.01"], "--top-p: 1.01 must be between 0 and 1"),
    "temperature": (["edit", "--temperature", "-0.1"], "--temperature: -0.1 must be at least 0"),
    "temperature inf": (["edit", "--temperature", "inf"], "--temperature: inf is not finite"),
    "guidance": (["edit", "--guidance", "nan"], "--guidance: nan is not finite"),
    "guidance text": (["edit", "--guidance", "x"], "--guidance: 'x' is not a number"),
    "max-steps": (["edit", "--max-steps", "0"], "--max-steps: 0 must be at least 1"),
    "window": (["edit", "--window", "0"], "--window: 0 must be at least 0.02"),
    "window text": (["edit", "--window", "5s"], "--window: '5s' is not a number"),
    "trained frames": ([*CONVERT, "--trained-frames", "0"], "--trained-frames: 0 must be at least 1"),
    "backend": (["edit", "--backend", "cuda"], "'cuda'"),
    "unknown option": (["info", "x", "--verbose"], "--verbose"),
    "bits": ([*CONVERT, "--bits", "3"], "--bits 3"),
    "bits text": (["convert", "--bits", "four"], "'four'"),
    "group size": ([*CONVERT, "--group-size", "48"], "--group-size 48"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(run: Run, case: str) -> None:
    argv, fragment = WRONG[case]
    run(*argv).fails(2, fragment)


def test_output_must_not_be_the_input(clip: Path, run: Run) -> None:
    before = clip.read_bytes()
    run("edit", clip, "-i", TEXT, "-o", clip.parent / "." / clip.name).fails(
        2, "is the input itself; choose another name with -o"
    )
    assert clip.read_bytes() == before


def test_revision_of_a_folder(clip: Path, bundle: Path, run: Run) -> None:
    run("edit", clip, "-i", TEXT, "-o", clip.parent / "out.wav", "--model", bundle, "--revision", "v1").fails(
        2, "--revision v1"
    )


def test_unknown_output_format(clip: Path, run: Run) -> None:
    run("edit", clip, "-i", TEXT, "-o", clip.parent / "out.m4a").fails(2, "cannot write '.m4a' files", ".flac")


def test_every_backend_can_be_chosen() -> None:
    assert ("auto", *kernels.BACKENDS) == shared_options.BACKENDS


@pytest.mark.parametrize("argv", ["--help", "edit --help", "convert --help", "info --help", "--version"])
def test_help(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(argv.split())
    assert exit.value.code == 0 and "instruct-musicgen" in capsys.readouterr().out


def test_help_and_usage_errors_import_nothing_heavy() -> None:
    script = (
        "import sys; from model.cli import main\n"
        "assert main(['edit', 'a', '-i', '', '-o', 'b']) == 2\n"
        "print(*[m for m in ('mlx', 'numpy', 'transformers', 'huggingface_hub', 'soundfile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
