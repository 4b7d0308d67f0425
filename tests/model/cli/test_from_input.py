"""`edit --from-input`: the input's rate, channels and numbers, two files that add up to it, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model import InstructMusicGen
from model.from_input.guides import guided

from .conftest import Run

pytestmark = pytest.mark.slow


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    """Half a second of 44.1 kHz stereo in 16 bits."""
    rng = np.random.default_rng(0)
    path = tmp_path / "in" / "song.wav"
    path.parent.mkdir()
    soundfile.write(path, rng.normal(0, 0.2, (22_050, 2)).clip(-1, 1), 44_100, subtype="PCM_16")
    return path


def command(source: Path, bundle: Path, *more: str | Path, out: str = "out.wav") -> tuple[str | Path, ...]:
    on = "--model", bundle, "--backend", "reference", "--quiet"
    return "edit", source, "-o", source.parents[1] / out, "--from-input", *on, *more


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_both_files_add_up_to_the_input(stereo: Path, bundle: Path, run: Run, subtype: str, suffix: str) -> None:
    samples, rate = soundfile.read(stereo, dtype="float64")
    soundfile.write(stereo, samples, rate, subtype=subtype)
    rest = stereo.parents[1] / f"rest{suffix}"
    done = run(*command(stereo, bundle, "--no", "drums", "--residual", rest, out=f"out{suffix}"))
    assert done.code == 0, done
    kind = "int32" if subtype != "FLOAT" or suffix == ".flac" else "float64"
    parts = [soundfile.read(path, dtype=kind)[0] for path in (stereo.parents[1] / f"out{suffix}", rest)]
    # libsndfile does not scale what it reads from floats as integers.
    given = samples * 2.0**31 if subtype == "FLOAT" and kind == "int32" else soundfile.read(stereo, dtype=kind)[0]
    for part in parts:
        assert part.shape == given.shape and part.any()
    if subtype == "FLOAT":
        step = 2.0**-24 if kind == "float64" else 2**8  # FLAC: the input was rounded to 24 bits first
        assert np.abs(parts[0].astype(np.float64) + parts[1] - given).max() <= step
    else:
        assert np.array_equal(parts[0].astype(np.int64) + parts[1], given)
    info = soundfile.info(stereo.parents[1] / f"out{suffix}")
    assert (info.samplerate, info.channels) == (44_100, 2)
    assert info.subtype == ("PCM_24" if subtype == "FLOAT" and suffix == ".flac" else subtype)


def test_seeds_and_guides_decide_the_mask_and_max_steps_the_length(stereo: Path, bundle: Path, run: Run) -> None:
    found = {}
    for name, more in {
        "plain": (), "again": (), "seed": ("--seed", "1"), "guides": ("--guides", "2"), "short": ("--max-steps", "5"),
    }.items():  # fmt: skip
        assert run(*command(stereo, bundle, "--only", "drums", *more)).code == 0
        found[name] = soundfile.read(stereo.parents[1] / "out.wav")[0]
    assert np.array_equal(found["plain"], found["again"])
    assert not np.array_equal(found["plain"], found["seed"]) and not np.array_equal(found["plain"], found["guides"])
    assert len(found["short"]) == 5 * 882


def test_the_guides_edit_is_the_plain_edit(stereo: Path, bundle: Path) -> None:
    model = InstructMusicGen.from_pretrained(bundle, backend="reference")
    clip = np.random.default_rng(1).normal(0, 0.1, 6400).astype(np.float32)
    for text in ("Music piece. Instruct: Only Drums.", "Music piece. Instruct: No Drums."):
        assert np.array_equal(guided(model, clip, text, seed=3).edit, np.array(model.generate(text, clip, seed=3)))


@pytest.mark.parametrize(("more", "fragment"), [
    (("--add", "drums"), "--from-input and --add"), (("--only", "drums", "--normalize"), "--normalize"),
    (("--only", "drums", "--candidates", "2"), "--guides"), (("--only", "drums", "--residual", "-"), "file name"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(
    stereo: Path, bundle: Path, run: Run, more: tuple[str, ...], fragment: str
) -> None:
    run(*command(stereo, bundle, *more)).fails(2, fragment)
    assert os.listdir(stereo.parents[1]) == ["in"]


def test_sentences_that_name_nothing_to_cut_out_are_refused(stereo: Path, bundle: Path, run: Run) -> None:
    run(*command(stereo, bundle, "-i", "make it brighter")).fails(1, "Only or No", "omit --from-input")
    assert os.listdir(stereo.parents[1]) == ["in"]


def test_a_rest_in_the_place_of_another_file_is_refused(stereo: Path, bundle: Path, run: Run) -> None:
    before = stereo.read_bytes()
    for rest in (stereo, stereo.parents[1] / "out.wav"):
        done = run(*command(stereo, bundle, "--only", "drums", "--residual", rest))
        done.fails(2, "choose another name")
    assert stereo.read_bytes() == before and os.listdir(stereo.parents[1]) == ["in"]


def test_lossy_outputs_and_too_loud_floats_are_refused_before_the_work(stereo: Path, bundle: Path, run: Run) -> None:
    run(*command(stereo, bundle, "--only", "drums", out="out.ogg")).fails(2, "OGG", ".flac")
    soundfile.write(stereo, np.full((9000, 1), 1.5), 44_100, subtype="FLOAT")
    run(*command(stereo, bundle, "--only", "drums", out="out.flac")).fails(1, "above full scale", ".wav")
    assert os.listdir(stereo.parents[1]) == ["in"]


def test_if_the_rest_cannot_be_written_nothing_is(stereo: Path, bundle: Path, run: Run) -> None:
    rest = stereo.parents[1] / "absent" / "rest.wav"
    run(*command(stereo, bundle, "--only", "drums", "--residual", rest)).fails(1, "absent")
    assert os.listdir(stereo.parents[1]) == ["in"]
