"""`info edited.wav` prints the command that makes the file again, byte for byte."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from model.cli import main

from .conftest import TEXT, Run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("more", [
    (), ("--seed", "7", "--top-k", "5", "--temperature", "0.7", "--guidance", "-1.5"), ("--greedy", "--normalize"),
    ("--max-steps", "4", "--window", "0.2", "--keep-rate"), ("--guidance", "1", "--top-p", "0.5"),
    ("-i", "just the drums"), ("--from-input", "-i", "no bass", "--max-steps", "5"),
])  # fmt: skip
def test_the_printed_command_makes_the_same_bytes(
    clip: Path, bundle: Path, run: Run, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(clip.parent)
    (clip.parent / bundle.name).symlink_to(bundle)
    out = clip.parent / "out.wav"
    text = () if "-i" in more else ("-i", TEXT)
    assert run("edit", clip.name, *text, "-o", out, "--model", bundle.name, "--backend", "reference", *more).code == 0
    first = out.read_bytes()
    said = run("info", out).out
    command = shlex.split(next(line for line in said.splitlines() if line.startswith("again")).partition(" ")[2])
    assert command[:2] == ["instruct-musicgen", "edit"]
    out.unlink()
    assert main(command[1:]) == 0 and out.read_bytes() == first
    as_json = json.loads(run("info", out, "--json").out)
    assert shlex.split(as_json["command"]) == command and as_json["license"] == "CC-BY-NC-4.0"


def test_a_file_without_a_record_is_one_line(clip: Path, run: Run) -> None:
    run("info", clip).fails(1, "clip.wav", "its tags don't say how it was made")
    (clip.parent / "x.flac").write_bytes(b"none")
    run("info", clip.parent / "x.flac").fails(1, "x.flac", "its tags")


def test_the_command_of_an_edit_by_the_demo_runs_as_it_stands(
    clip: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)
    more = ("--max-steps", "4", "--backend", "reference")
    assert run("edit", clip.name, "-i", "only drums", "-o", "out.wav", *more).code == 0
    first = Path("out.wav").read_bytes()
    line = next(each for each in run("info", "out.wav").out.splitlines() if each.startswith("again"))
    Path("out.wav").unlink()
    assert main(shlex.split(line.partition(" ")[2])[1:]) == 0 and Path("out.wav").read_bytes() == first


def test_the_command_of_words_that_begin_with_a_dash_runs_as_it_stands(
    clip: Path, bundle: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)
    clip.rename("-in.wav")
    Path("-bundle").symlink_to(bundle)
    asked = ("--instruction=-drums", "--output=-out.wav", "--model=-bundle", "--guidance=-1e-05")
    assert run("edit", "./-in.wav", *asked, "--max-steps", "3", "--backend", "reference").code == 0
    first = Path("-out.wav").read_bytes()
    command = json.loads(run("info", "--json", "./-out.wav").out)["command"]
    Path("-out.wav").unlink()
    assert main(shlex.split(command)[1:]) == 0 and Path("-out.wav").read_bytes() == first
