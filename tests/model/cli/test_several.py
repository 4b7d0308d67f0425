"""`edit` of many files: what alone gives, failures that stop nobody, going on, a full disk, shards."""

from __future__ import annotations

import csv
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from model import whole_file
from model.folders.file_jobs import seed_of

from .conftest import TEXT, Run

pytestmark = pytest.mark.slow


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Three of equal length at unequal rates, and a shorter one."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for name, rate, seconds in (("a", 32_000, 0.3), ("b", 16_000, 0.3), ("sub/c", 48_000, 0.3), ("short", 32_000, 0.1)):
        soundfile.write(folder / f"{name}.wav", rng.normal(0, 0.1, round(rate * seconds)), rate, subtype="FLOAT")
    return folder


def command(songs: Path, bundle: Path, *more: str | Path) -> tuple[str | Path, ...]:
    out = songs.parent / "out"
    return "edit", songs, "-i", TEXT, "-o", out, "--model", bundle, "--backend", "native", *more


def table(songs: Path, name: str = "results.csv") -> dict[str, dict[str, str]]:
    with open(songs.parent / "out" / name, newline="") as file:
        return {line["output"]: line for line in csv.DictReader(file)}


def test_each_file_is_what_its_seed_gives_alone(songs: Path, bundle: Path, run: Run) -> None:
    assert run(*command(songs, bundle)).code == 0
    lines = table(songs)
    assert set(lines) == {"a.wav", "b.wav", "sub/c.wav", "short.wav"}
    for name, line in lines.items():
        assert line["status"] == "done" and int(line["seed"]) == seed_of(0, Path(name).name)
        assert line["sentence"] == TEXT and line["version"] and float(line["gap"]) and float(line["took"]) > 0
        alone = songs.parent / "alone.wav"
        done = run(
            "edit", songs / name, "-i", TEXT, "-o", alone, "--model", bundle, "--backend", "native", "--seed",
            line["seed"],
        )  # fmt: skip
        assert done.code == 0 and alone.read_bytes() == (songs.parent / "out" / name).read_bytes(), name


def test_whole_outputs_are_skipped_until_a_setting_or_an_input_changes(songs: Path, bundle: Path, run: Run) -> None:
    assert "4 done, 0 skipped" in run(*command(songs, bundle)).out
    first = table(songs)
    assert "0 done, 4 skipped" in run(*command(songs, bundle)).out
    again = table(songs)
    assert all(again[name] == {**line, "status": "skipped"} for name, line in first.items())
    assert "4 done, 0 skipped" in run(*command(songs, bundle, "--top-k", "9")).out
    out = songs.parent / "out" / "a.wav"
    out.write_bytes(out.read_bytes()[:-400])
    (songs / "b.wav").write_bytes((songs / "a.wav").read_bytes())
    assert "2 done, 2 skipped" in run(*command(songs, bundle, "--top-k", "9")).out


def test_a_bad_file_stops_no_other_and_is_named(songs: Path, bundle: Path, run: Run) -> None:
    (songs / "bad.wav").write_bytes(b"no music" * 99)
    soundfile.write(songs / "silent.wav", np.zeros(9600), 32_000)
    done = run(*command(songs, bundle, "--quiet"))
    errors = done.err.splitlines()
    assert done.code == 1 and len(errors) == 3 and all(line.startswith("error: ") for line in errors)
    assert "bad.wav" in done.err and "silent (peak" in done.err and "2 of 6 files failed" in errors[-1]
    lines = table(songs)
    assert {name for name, line in lines.items() if line["status"] == "failed"} == {"bad.wav", "silent.wav"}
    assert "not audio" in lines["bad.wav"]["error"]
    assert not (songs.parent / "out" / "bad.wav").exists() and (songs.parent / "out" / "a.wav").exists()


def test_a_manifest_gives_each_file_its_sentence(songs: Path, bundle: Path, run: Run) -> None:
    manifest = songs / "list.csv"
    manifest.write_text("input,sentence,seed\na.wav,Only Drums.,5\nabsent.wav,No Bass.,\nb.wav,,\n")
    out, on = songs.parent / "out", ("--model", bundle, "--backend", "native", "--quiet")
    done = run("edit", manifest, "-o", out, *on)
    assert done.code == 1 and "absent.wav" in done.err and "no sentence" in done.err
    assert table(songs)["a.wav"]["seed"] == "5" and "Only Drums." in table(songs)["a.wav"]["sentence"]
    assert run("edit", manifest, "-o", out, "--no", "piano", *on).code == 1
    assert table(songs)["a.wav"]["status"] == "skipped" and "No Piano." in table(songs)["b.wav"]["sentence"]
    manifest.write_text("input,seed\na.wav,1\nb.wav,one\n")
    run("edit", manifest, "-o", songs.parent / "other", "-i", TEXT, *on).fails(1, "list.csv, line 3", "'one'")
    assert not (songs.parent / "other").exists()


def test_a_full_disk_in_the_middle_loses_nothing(
    songs: Path, bundle: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = whole_file.write_whole
    written: list[Path] = []

    def full(contents: dict[Path, bytes], **options: object) -> list[Path]:
        path = next(iter(contents))
        if len(written) >= 2:
            raise options["explain"](path, OSError(errno.ENOSPC, "No space left on device"))  # type: ignore[operator]
        written.append(path)
        return whole(contents, **options)

    monkeypatch.setattr("model.whole_file.write_whole", full)
    done = run(*command(songs, bundle, "--quiet"))
    done.fails(1, "no space left on device", "2 of 4 files", "goes on")
    found = [path for path in (songs.parent / "out").rglob("*") if path.is_file()]
    assert sorted(p for p in found if p.suffix == ".wav") == sorted(written) and not any(
        ".part" in p.name for p in found
    )
    monkeypatch.undo()
    assert "2 done, 2 skipped" in run(*command(songs, bundle)).out


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_keeps_its_files_and_table(
    songs: Path, bundle: Path, run: Run, monkeypatch: pytest.MonkeyPatch, ending: type[BaseException]
) -> None:
    from model.folders import run as folders

    def until_the_third(*arguments: object, **options: object) -> Iterator[folders.Outcome]:
        for number, each in enumerate(whole(*arguments, **options)):
            if number == 2:
                raise ending(3)
            yield each

    whole = folders.edit_files
    monkeypatch.setattr(folders, "edit_files", until_the_third)
    if ending is SystemExit:  # a signal that ends the program
        with pytest.raises(SystemExit):
            run(*command(songs, bundle))
    else:
        done = run(*command(songs, bundle))
        assert done.code == 130 and "2 of 4 files are done with" in done.err
    assert [line["status"] for line in table(songs).values()] == ["done", "done"]
    monkeypatch.undo()
    assert "skipped (whole already), 0 failed" in run(*command(songs, bundle)).out


def test_from_input_keeps_every_files_rate(songs: Path, bundle: Path, run: Run) -> None:
    done = run(*command(songs, bundle, "--from-input", "--only", "drums")[:2], *command(songs, bundle)[4:],
               "--only", "drums", "--from-input", "--to", "flac")  # fmt: skip
    assert done.code == 0, done
    assert {soundfile.info(songs.parent / "out" / f"{n}.flac").samplerate for n in ("a", "b", "sub/c")} == {
        32_000, 16_000, 48_000
    }  # fmt: skip


@pytest.mark.parametrize(("more", "fragment"), [
    (("--shard", "3/2"), "I/N"), (("--residual", "x.wav", "--from-input"), "several files"),
    (("--candidates", "2"), "run it once"), (("--seed", "random"), "name a seed"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(
    songs: Path, bundle: Path, run: Run, more: tuple[str, ...], fragment: str
) -> None:
    text = command(songs, bundle, *more)
    run(*(("edit", songs, "--only", "drums", *text[4:]) if "--from-input" in more else text)).fails(2, fragment)
    assert os.listdir(songs.parent) == ["in"]


def test_an_output_that_is_a_file_or_inside_the_input_is_refused(songs: Path, bundle: Path, run: Run) -> None:
    on = "--model", bundle, "-i", TEXT
    run("edit", songs, "-o", songs / "a.wav", *on).fails(2, "need a folder")
    run("edit", songs, "-o", songs / "out", *on).fails(2, "inside the input folder")
    run("edit", songs / "a.wav", songs / "sub" / ".." / "a.wav", "-o", songs.parent / "o", *on).fails(2, "both")


def test_shards_do_every_file_once(songs: Path, bundle: Path, run: Run) -> None:
    done: list[str] = []
    for number in (1, 2, 3):
        assert run(*command(songs, bundle, "--shard", f"{number}/3")).code == 0
        place = songs.parent / "out" / f"results-{number}-of-3.csv"
        done += list(table(songs, place.name)) if place.exists() else []
    assert sorted(done) == ["a.wav", "b.wav", "short.wav", "sub/c.wav"]
    assert "0 done, 4 skipped" in run(*command(songs, bundle)).out


@pytest.mark.serial
def test_mlx_launch_deals_the_files_to_its_processes(songs: Path, bundle: Path) -> None:
    """Two processes on this machine, by MLX's own launcher."""
    launch = Path(sys.executable).with_name("mlx.launch")
    if not launch.exists():
        launch = Path(mx.__file__).parents[4] / "bin" / "mlx.launch"
    argv = [sys.executable, "-m", "model.cli", *map(str, command(songs, bundle))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [launch, "-n", "2", "--backend", "ring", "--", *argv], capture_output=True, text=True, env=environment,
        timeout=500, cwd=songs.parent,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "shard 1/2 (MLX_RANK)" in said and "shard 2/2 (MLX_RANK)" in said, said
    tables = [
        table(songs, f"results-{n}-of-2.csv")
        for n in (1, 2)
        if (songs.parent / "out" / f"results-{n}-of-2.csv").exists()
    ]
    names = [name for each in tables for name in each]
    assert sorted(names) == ["a.wav", "b.wav", "short.wav", "sub/c.wav"]
