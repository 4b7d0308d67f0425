"""`bench roofline`: every number made again, from the formulas and from the samples that `--json` holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import cli
from bench.roofline import apple_chips as chips
from bench.roofline.command import compute
from bench.roofline.estimates import estimates, estimates_table
from bench.step_bytes import published

from ..test_printed import number, printed, same

pytestmark = pytest.mark.slow

LAYERS, DIM, CARD, CODEBOOKS = 48, 2048, 2048, 4
"""MusicGen-large."""


def hand_made(seconds: float, batch: int, text: int) -> dict[str, float]:
    """Bytes of a step at 4 bits: 14 matrices of DIM x DIM a layer, 4.5 bits a weight; two rows a clip share all but
    their caches, which are half full on average."""
    frames = round(50 * seconds)
    steps = frames + CODEBOOKS - 1
    row = LAYERS * 2 * DIM * 2  # a position's keys and values in float16
    return {
        "weights": LAYERS * 14 * DIM**2 * 4.5 / 8 + (3 * LAYERS + 1) * 2 * DIM * 2,
        "heads": CODEBOOKS * CARD * DIM * 2,
        "embedding": 2 * batch * CODEBOOKS * DIM * 2,
        "self cache": 2 * batch * (steps + 1) / 2 * row,
        "prefix": batch * (frames + 1) * row,
        "text": batch * text * row,
    }


def saved(path: Path) -> Path:
    assert cli.main(["--seconds", "0.2", "--repeat", "3", "--columns", "fused,reference", "--save", str(path)]) == 0
    return path


@pytest.mark.parametrize(("seconds", "batch", "text"), [(5.0, 1, 12), (10.0, 3, 40), (0.03, 1, 0)])
def test_bounds(seconds: float, batch: int, text: int) -> None:
    options = ["--seconds", str(seconds), "--batch", str(batch), "--text", str(text)]
    rows, shown = printed(["roofline", "--no-measure", *options])
    parts = hand_made(seconds, batch, text)
    step = sum(parts.values())
    for name, value in {**parts, "a step": step}.items():
        same(rows[name][0][0], value)
        assert number(rows[name][0][1]) == pytest.approx(100 * value / step, abs=0.051)
    frames = round(50 * seconds)
    for chip in chips.CHIPS:
        rate, ms, rtf, at_80 = rows[chip.name][0]
        assert float(rate) == chip.bandwidth
        least = step / chip.bandwidth / 1e9
        assert float(ms) == pytest.approx(1e3 * least, rel=0.0051)
        assert float(rtf) == pytest.approx(least * (frames + 3) / (frames / 50 * batch), rel=0.0051)
        assert float(at_80) == pytest.approx(least * (frames + 3) / (frames / 50 * batch) / 0.8, rel=0.0051)
        assert any(chip.source in line and chip.name in line and chip.checked in line for line in shown.splitlines())


def test_this_machine_and_measured_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "r.json")
    capsys.readouterr()
    assert cli.main(["roofline", "--json", "--result", str(path)]) == 0
    record = json.loads(capsys.readouterr().out)
    here = record["this_machine"]
    assert here["bandwidth"] == pytest.approx(here["bytes"] / np.median(here["seconds"]) / 1e9)
    assert here["ms_step"] == pytest.approx(sum(record["parts"].values()) / here["bandwidth"] / 1e6)
    assert len(record["chips"]) == len(chips.CHIPS) and len(record["measured"]) == 2

    rows, text = printed(["roofline", "--result", str(path)])
    assert float(rows["this machine"][0][0]) > 0 and here["method"] in text
    result = json.loads(path.read_text())
    passes = np.concatenate([result["bandwidth"]["seconds"], *result["bandwidth"]["rounds"]])
    stream = result["bandwidth"]["bytes"] / float(np.median(passes))
    for column, name in zip(result["columns"], ("fused", "reference")):
        (cells,) = (r[0] for label, r in rows.items() if label.startswith("demo bundle 4 bits, " + name))
        step = float(np.median([r["seconds"]["steps"] for r in column["rounds"]])) / 13
        least = sum(column["step_bytes"].values()) / stream
        same(cells[0], step)
        same(cells[1], least)
        same(cells[2], step / least)
    assert result["environment"]["commit"] in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seconds", "nan"], "--seconds nan must be between 0.02 and 10"),
        (["--batch", "0"], "--batch 0"),
        (["--text", "-1"], "--text -1 must be at least 0"),
    ],
)
def test_errors(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["roofline", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {says}")


def test_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """At 60 columns no number is broken in two."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(["roofline", "--no-measure"]) == 0
    body = [line for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert max(map(len, body)) <= 60 and any("68.25" in line and "26.7" in line and "1.69" in line for line in body)


@pytest.mark.parametrize("size", ("small", "large"))
def test_estimates_are_ranges_above_what_the_bytes_take(size: str) -> None:
    parts = compute(size, 4, 5.0, 1, 12)
    layers = published(size, 4).lm.layers
    found = estimates(sum(parts.values()), layers)
    assert [e.chip for e in found] == ["M1", "M2 Max", "M4 Max", "M5"]
    for e in found:
        assert e.least < e.redesigned[0] < e.redesigned[1] < e.as_is[0] < e.as_is[1]
        assert e.redesigned[1] < e.stock[0] < e.stock[1]
    text = "\n".join(estimates_table(found, size).notes)
    assert "no time was measured on any Apple GPU" in text and "Guessed" in text
