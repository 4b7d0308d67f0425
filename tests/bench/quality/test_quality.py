"""`bench quality` without CLAP (see test_clap.py for it): rows, pairs, stems, and what the page says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench.cli import main
from bench.quality import page as quality_page
from bench.variants import parse
from model import audio
from model.evaluation.measures.log_mel import log_mel_distance
from model.evaluation.measures.si_sdr import si_sdr
from model.evaluation.quality.instructions import Instruction
from model.evaluation.quality.measure import CEILING, CODEC, INPUT, TRUE, QualityClip, QualitySettings, Row, measure

pytestmark = pytest.mark.slow

RATE = 32_000
ASKED = [Instruction(f"Music piece. Instruct: {x}", x) for x in ("Only Drums.", "Remove Drums.", "Add Piano.")]


def song(seed: int, samples: int = 9600) -> QualityClip:
    """Three stems that sound unlike each other, and their sum."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / RATE
    stems = {
        "drums": rng.standard_normal(samples) * np.exp(-20 * (t % 0.125)),
        "bass": np.sin(2 * np.pi * 70 * t + seed),
        "piano": np.sin(2 * np.pi * 440 * t) * np.exp(-4 * (t % 0.25)),
    }
    stems = {name: (0.2 * x).astype(np.float32) for name, x in stems.items()}
    return QualityClip(f"song {seed}", sum(stems.values(), np.zeros(samples, np.float32)), stems)


class Spectrum:
    """Stands in for CLAP: a recording's embedding is its energy below, around and above; a text's, by its words."""

    AXES = ("bass", "piano", "drums")

    def text(self, texts: list[str]) -> np.ndarray:
        found = [np.array([float(word in text.lower()) for word in self.AXES], np.float32) for text in texts]
        return np.stack([x / max(1.0, float(np.linalg.norm(x))) for x in found])

    def audio(self, samples: np.ndarray, rate: int) -> np.ndarray:
        power = np.abs(np.fft.rfft(samples)) ** 2
        hz = np.fft.rfftfreq(len(samples), 1 / rate)
        bands = np.sqrt([power[hz < 200].sum(), power[(hz >= 200) & (hz < 1000)].sum(), power[hz >= 1000].sum()])
        return np.asarray(bands / np.linalg.norm(bands), np.float32)


@pytest.fixture(scope="module")
def rows(bundles: dict[str, Path]) -> dict[str, Row]:
    variants = parse(
        str(bundles["exact"]), [str(bundles[n]) for n in ("exact", "eight", "four", "damaged")], backend="reference"
    )
    clips = [song(seed) for seed in range(3)]
    settings = QualitySettings(seeds=(0,))
    return {r.label: r for r in measure(variants, clips, ASKED, settings, Spectrum())}


def mean(row: Row, name: str) -> float:
    return float(np.mean(list(row.values[name].values())))


def test_every_row_and_cell_is_there(rows: dict[str, Row]) -> None:
    assert list(rows) == [INPUT, CODEC, TRUE, CEILING, "exact", "exact (2)", "eight", "four", "damaged"]
    for label in ("exact", "damaged"):
        assert len(rows[label].values["SI-SDR"]) == 3 * 3
        assert len(rows[label].values["CLAP remains"]) == 3
    assert len(rows[CODEC].values["CLAP"]) == 3 * 3


def test_identical_variants_score_exactly_the_same(rows: dict[str, Row]) -> None:
    assert rows["exact"].values == rows["exact (2)"].values
    assert not any(rows["exact (2)"].values["log-mel to reference"].values())


def test_damage_is_further_from_the_reference(rows: dict[str, Row]) -> None:
    """Random weights make no music, so no true stem is approached; how far the result moved must still be ranked."""
    eight, four, damaged = (mean(rows[n], "log-mel to reference") for n in ("eight", "four", "damaged"))
    assert 0 < eight < four < damaged


def test_known_rows(rows: dict[str, Row]) -> None:
    assert not any(rows[INPUT].values["log-mel to input"].values())
    # The mix has the piano that is to be added: nothing to gain there.
    assert set(rows["exact"].values["SI-SDRi"]) == {k for k in rows["exact"].values["SI-SDR"] if "Add" not in k[1]}
    assert all(math.isfinite(gain) for gain in rows["exact"].values["SI-SDRi"].values())
    assert not any(rows[INPUT].values["SI-SDRi"].values()) and not any(rows[INPUT].values["CLAP change"].values())
    assert set(rows[TRUE].values["SI-SDR"].values()) == {math.inf}
    clip = song(1)
    key = ("song 1", ASKED[1].text, "-")
    expected = si_sdr(clip.samples, clip.stems["bass"] + clip.stems["piano"])
    assert rows[INPUT].values["SI-SDR"][key] == pytest.approx(expected, abs=1e-3)
    assert rows[INPUT].values["log-mel to truth"][key] == pytest.approx(
        log_mel_distance(clip.samples, clip.stems["bass"] + clip.stems["piano"], RATE), rel=1e-3
    )


def test_removals_are_scored_against_what_remains(rows: dict[str, Row]) -> None:
    """The untouched input matches "drums" better than the true answer does, and what remains worse."""
    removed, remains = "CLAP removed", "CLAP remains"
    assert mean(rows[INPUT], removed) > mean(rows[TRUE], removed)
    assert mean(rows[INPUT], remains) < mean(rows[TRUE], remains)
    assert mean(rows[TRUE], f"{remains} change") == pytest.approx(
        mean(rows[TRUE], remains) - mean(rows[INPUT], remains)
    )


def test_seed_spread_is_the_spread_within_cells() -> None:
    values = {("a", "x", "0"): 1.0, ("a", "x", "1"): 3.0, ("b", "x", "0"): 11.0, ("b", "x", "1"): 11.0}
    # Variances 2 and 0: their mean is 1. Between the clips there is much more, which is not the seeds' doing.
    assert quality_page.seed_spread(values) == pytest.approx(1.0)
    assert quality_page.seed_spread({("a", "x", "0"): 1.0}) is None


def test_units_are_clips_then_instructions_then_seeds() -> None:
    def keys(clips: int, instructions: int, seeds: int) -> list[tuple[str, str, str]]:
        return [(str(c), str(i), str(s)) for c in range(clips) for i in range(instructions) for s in range(seeds)]

    assert quality_page.unit_axis(keys(3, 9, 9)) == 0
    assert quality_page.unit_axis(keys(2, 3, 9)) == 1
    assert quality_page.unit_axis(keys(1, 2, 3)) == 2
    assert quality_page.unit_axis(keys(2, 2, 2)) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips")
    for seed in range(3):
        clip = song(seed, 8000)
        (out / "stems" / f"s{seed}").mkdir(parents=True)
        soundfile.write(out / f"s{seed}.wav", clip.samples, RATE, "FLOAT")
        for name, samples in clip.stems.items():
            soundfile.write(out / "stems" / f"s{seed}" / f"{name}.wav", samples, RATE, "FLOAT")
    return out


def test_command(bundles: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = tmp_path / "asked.yaml"
    asked.write_text("- 'Music piece. Instruct: Only Drums.'\n- {instruction: 'Music piece. Instruct: Remove Bass.'}\n")
    arguments = ["quality", "--model", str(bundles["exact"]), "--against", str(bundles["exact"]), "--no-clap"]
    arguments += ["--instructions", str(asked)]
    arguments += [
        "--backend",
        "reference",
        "--clips",
        str(folder),
        "--stems",
        str(folder / "stems"),
        "--seeds",
        "2",
        "--seconds",
        "0.2",
    ]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--keep-audio"]) == 0
    text = capsys.readouterr().out
    assert "Intervals resample clips." in text and "CLAP: not measured" in text
    assert "| exact (2) |" in text and "0 [0, 0] |" in text
    assert "Fréchet audio distance: it needs CLAP's embeddings." in text and "MusicGen-large 48 of 2048" in text
    paired = text.partition("## Paired differences")[2].partition("\n## ")[0]
    (line,) = [row for row in paired.splitlines() if row.startswith("| exact (2)")]
    assert {cell.strip() for cell in line.strip("| ").split("|")[1:]} == {"0 [0, 0]"}
    cells = json.loads((tmp_path / "out" / "quality.json").read_text())["cells"]
    assert {c["clip"] for c in cells} == {"s0", "s1", "s2"}
    assert (tmp_path / "out" / "quality.png").read_bytes().startswith(b"\x89PNG")
    kept = sorted((tmp_path / "out" / "audio").iterdir())
    assert len(kept) == 3 * 2 * 2 * 2 and len(audio.load(kept[0]).samples) == 6400


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--seeds", "0"], 2, "--seeds 0"),
        (["--seconds", "-1"], 2, "--seconds -1"),
        (["--keep-audio"], 2, "needs --out"),
        (["--clips", "/nonexistent.wav", "--no-clap"], 1, "cannot be read"),
        (["--instructions", "/nonexistent.txt"], 1, "cannot be read"),
    ],
)
def test_errors_are_one_line(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quality", *arguments]) == code
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
