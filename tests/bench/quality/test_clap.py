"""The CLAP score against transformers' own, on a tiny seeded ClapModel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.bundle.bundle import demo_path
from model.errors import UserError

pytestmark = pytest.mark.eval
TEXTS = ["Music piece. Instruct: Only Drums.", "bass and piano"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from .clap import tiny_clap

    return tiny_clap(tmp_path_factory.mktemp("clap"))


def noise(seconds: float, rate: int = 48_000, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.5, 4.0, 10.0])
def test_score_is_that_of_transformers(checkpoint: Path, seconds: float) -> None:
    import torch
    from transformers import ClapModel, ClapProcessor

    from model.candidates.clap import Clap, clap_score

    model, processor = ClapModel.from_pretrained(checkpoint).eval(), ClapProcessor.from_pretrained(checkpoint)
    recording = noise(seconds)
    text = processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    sound = processor.feature_extractor(recording, sampling_rate=48_000, return_tensors="pt")
    with torch.inference_mode():
        out = model(input_features=sound["input_features"], is_longer=sound["is_longer"], **text)
        expected = (out.logits_per_audio / model.logit_scale_a.exp())[0].numpy()
    clap = Clap(str(checkpoint))
    heard = clap.audio(recording, 48_000)
    found = [clap_score(heard, sentence) for sentence in clap.text(TEXTS)]
    # Float32 throughout; padding the shorter sentence is masked, up to rounding.
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert abs(found[0] - found[1]) > 1e-4


def test_the_same_recording_has_the_same_score_however_long(checkpoint: Path) -> None:
    """transformers takes a random crop of what is longer than 10 s; scores here are those of equal parts, averaged."""
    from model.candidates.clap import Clap

    clap = Clap(str(checkpoint))
    long = noise(24.0)
    first, second = clap.audio(long, 48_000), clap.audio(long, 48_000)
    assert np.array_equal(first, second)
    parts = [clap.audio(part, 48_000) for part in np.split(long, 3)]
    np.testing.assert_allclose(first, np.mean(parts, axis=0), atol=1e-6)


def test_recordings_are_resampled_to_what_clap_wants(checkpoint: Path) -> None:
    from model.candidates.clap import Clap

    clap = Clap(str(checkpoint))
    t = np.arange(48_000 * 2)
    tone48 = np.sin(2 * np.pi * 440 * t / 48_000).astype(np.float32)
    tone32 = np.sin(2 * np.pi * 440 * t[: 32_000 * 2] / 32_000).astype(np.float32)
    wrong = clap.audio(tone32, 48_000)
    assert np.dot(clap.audio(tone32, 32_000), clap.audio(tone48, 48_000)) > 0.9999
    assert np.dot(wrong, clap.audio(tone48, 48_000)) < 0.9999


def test_a_folder_without_clap_is_one_clear_error(tmp_path: Path) -> None:
    from model.candidates.clap import Clap

    for folder in (tmp_path, demo_path(), demo_path() / "t5"):
        with pytest.raises(UserError, match="--clap") as error:
            Clap(str(folder))
        assert "\n" not in str(error.value)


def test_command_makes_the_cards_table(
    checkpoint: Path, bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.cli import main

    texts = tmp_path / "instructions.txt"
    texts.write_text("Music piece. Instruct: Only Drums.\nMusic piece. Instruct: Remove Drums. | bass and piano\n")
    arguments = ["quality", "--model", str(bundles["exact"]), "--against", str(bundles["exact"]), str(bundles["four"])]
    arguments += ["--backend", "reference", "--clap", str(checkpoint), "--instructions", str(texts)]
    assert main([*arguments, "--seconds", "0.6", "--seeds", "2", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    for heading in (
        "CLAP score by instruction", "Removals", "Paired differences", "Fréchet audio distance", "Not measured",
    ):  # fmt: skip
        assert f"## {heading}" in text
    assert "Remove Drums. against what remains" in text
    lines = text.partition("## Fréchet audio distance")[2].partition("## Not measured")[0].splitlines()
    found = {row[0]: row[1:] for row in ([c.strip() for c in x.strip("| ").split("|")] for x in lines) if len(row) == 4}
    assert found["exact (2)"] == ["4", "-", "0"] and float(found["four"][2]) > 0
    assert found["exact, half against half"][0] == "2"
    cells = json.loads((tmp_path / "out" / "quality.json").read_text())["cells"]
    values = {(c["row"], c["measure"], c["instruction"], c["seed"]): c["value"] for c in cells}
    twins = {key: v for key, v in values.items() if key[0] == "exact" and key[1].startswith("CLAP")}
    assert len(twins) == 2 * (2 + 6)
    assert all(values[("exact (2)", key[1], key[2], key[3])] == v for key, v in twins.items())
    assert any(values[("four", key[1], key[2], key[3])] != v for key, v in twins.items())
    untouched = [v for key, v in values.items() if key[0] == "input, untouched" and key[1].endswith("change")]
    assert untouched and not any(untouched)
