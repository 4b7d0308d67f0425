"""The figures that are told of the demo are those of the record of its training, `model/demo/training/log.json`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
LOG: dict[str, Any] = json.loads((ROOT / "model" / "demo" / "training" / "log.json").read_text())
README = " ".join((ROOT / "README.md").read_text().split())
CANDIDATES = (ROOT / "docs" / "candidates.md").read_text()
RECIPE = (ROOT / "model" / "demo" / "training" / "README.md").read_text()
JUDGED = {each["set"]: each["summary"] for each in LOG["judge"] if each["bundle"] == "final"}
SCORES = {
    "fit": "fit: how little", "probability": "mean log p of the tokens", "guided": "mean log p under guided logits",
    "gap": "guidance gap |", "first gap": "guidance gap of the first codebook", "oracle": "the truth itself",
}  # fmt: skip
EXCESS = {"only": 1.0, "no": 8.0}


def row(text: str, begins: str) -> list[str]:
    """The cells after the first one of the first row of a table that begins so."""
    line, *_ = [line for line in text.splitlines() if line.startswith(f"| {begins}")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def split_by_mask(verb: str) -> dict[str, Any]:
    """The summary of `verb` at the excess that the product uses for it."""
    (found,) = [each["summary"][verb] for each in LOG["splits"] if each["excess"] == EXCESS[verb]]
    (mask,) = [value for key, value in found.items() if key.startswith("mask, ")]
    return {"mask": mask, "edit": found["edit"], "input": found["input"]}


def test_the_share_of_edits_that_reach_their_target() -> None:
    told = re.search(r"out of nine mixtures, in (\d+) % of cases \(95 % interval (\d+) to (\d+);", README)
    known = JUDGED["held-out"]["Only and No: true target nearest of nine"]
    assert told and [float(figure) for figure in told.groups()] == [
        round(known[key]) for key in ("percent", "low", "high")
    ]


@pytest.mark.parametrize("what", list(JUDGED["own"])[:5])
def test_the_recipes_table(what: str) -> None:
    cells = row(RECIPE, what)
    assert len(cells) == 3
    for told, name in zip(cells, ("own", "held-out", "presets")):
        known = [JUDGED[name][what][key] for key in ("percent", "low", "high")]
        assert [float(figure) for figure in re.findall(r"\d+", told)] == pytest.approx(known, abs=0.51)


@pytest.mark.parametrize("score", SCORES)
def test_the_table_of_scores(score: str) -> None:
    (known,) = [each["gains"]["all"][score] for each in LOG["ranks"]]
    reached = known["reached"]
    first, mean, difference = row(CANDIDATES, SCORES[score])
    assert (first, mean) == (f"{known['rank 1']:.1f} %", f"{known['mean candidate']:.1f} %")
    told = [float(figure) for figure in re.findall(r"[+-]?\d+\.\d+|\d+\.\d+", difference)]
    assert told == pytest.approx([reached["mean"], reached["low"], reached["high"]], abs=0.051)


def test_what_the_readme_says_of_candidates() -> None:
    told = re.search(r"rank 1 reaches the target in (\d+) % of edits, the mean candidate in (\d+) %", README)
    gain = re.search(r"\[(\d+) points, 95 % interval (\d+) to (\d+)\]", README)
    (known,) = [each["gains"]["all"]["fit"] for each in LOG["ranks"]]
    assert told and [int(figure) for figure in told.groups()] == [
        round(known["rank 1"]), round(known["mean candidate"]),
    ]  # fmt: skip
    assert gain and [int(figure) for figure in gain.groups()] == [
        round(known["reached"][key]) for key in ("mean", "low", "high")
    ]


def test_what_the_readme_says_of_the_inputs_own_sound() -> None:
    told = re.search(
        r"rises from (-?[\d.]+) to (-?[\d.]+) for Only \(the input itself: (-?[\d.]+)\) "
        r"and from (-?[\d.]+) to (-?[\d.]+) for No \(the input: (-?[\d.]+)\); "
        r"what should go falls by ([\d.]+) and ([\d.]+) dB",
        README,
    )
    assert told
    known = [split_by_mask(verb) for verb in ("only", "no")]
    figures = [f for each in known for f in (each["edit"], each["mask"]["si-sdr"], each["input"])]
    figures += [each["mask"]["fall"]["mean"] for each in known]
    assert [float(figure) for figure in told.groups()] == pytest.approx(figures, abs=0.051)
    assert all(each["mask"]["win"] for each in known)


def test_the_mask_is_used_as_it_was_measured() -> None:
    from model.from_input.mask import EXCESS as USED

    assert {verb.lower(): value for verb, value in USED.items()} == EXCESS
