"""`bench tune` finds what is faster and keeps it; the machine that it was measured on uses it from then on."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from bench.cli import main
from bench.tune.command import StepTimer
from bench.tune.search import Knobs, search
from bench.tune.workload import Workload, geometry
from kernels import native, tuning
from kernels.metal.choices import Choices, Route, default

ROOT = Path(__file__).parents[3]


def rounds(speed: dict[str, dict[Any, float]], noise: float = 0.02) -> Any:
    """Samples of a step that each knob's value makes so many times faster."""
    rng = np.random.default_rng(1)

    def measure(candidates: Sequence[Knobs], seconds: float) -> list[list[float]]:
        return [
            [
                float(np.prod([1 / speed.get(k, {}).get(v, 1) for k, v in knobs.items()]) * rng.lognormal(0, noise))
                for _ in range(15)
            ]
            for knobs in candidates
        ]

    return measure


def test_the_search_takes_what_is_faster_and_leaves_the_rest() -> None:
    knobs = {"a": [1, 2, 3], "b": ["x", "y"], "c": [0, 9]}
    found = search(knobs, rounds({"a": {2: 1.2, 3: 1.4}, "b": {"y": 0.8}}), 60)
    assert found.knobs == {"a": 3}
    assert {(t.knob, t.value) for t in found.tried if t.taken} == {("a", 3)}


def test_the_search_is_not_led_by_noise() -> None:
    knobs = {"a": list(range(6)), "b": list(range(6))}
    assert search(knobs, rounds({}, noise=0.1), 60).knobs == {}


def test_the_search_goes_back_to_a_faster_default() -> None:
    assert search({"a": [1, 2]}, rounds({"a": {2: 0.5}}), 60, start={"a": 2}).knobs == {}


def test_knobs_without_time_are_named() -> None:
    assert search({"a": [1, 2], "b": [1, 2]}, rounds({}), 0).untried == ["a", "b"]


@pytest.mark.slow
def test_a_planted_knob_and_a_planted_environment_are_found_in_processes_of_their_own() -> None:
    measured = StepTimer({}, make="tests.bench.tune.planted:column")
    limits = {"outputs": [4, 2], "environment": [{}, {"PLANTED": 1}]}
    found = search(limits, measured, 60)
    assert found.knobs == {"outputs": 2, "environment": {"PLANTED": 1}}
    assert measured.of["tuning"] == "off", "what is measured must not begin with an older tuning"
    before, after = measured([{}, found.knobs], 0)
    assert 2 < min(before) / min(after) < 6, "four times as fast, where nothing else holds a step up"


@pytest.mark.slow
@pytest.mark.backend("native")
@pytest.mark.serial
@pytest.mark.skipif(len(native.info()["isas"]) < 2, reason="this machine has one instruction set")
def test_native_is_tuned_away_from_a_slow_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest of this machine is planted; a step then takes the time that the search told."""
    slow = native.info()["isas"][-1]
    config = dataclasses.replace(geometry("small", 4), lm=dataclasses.replace(geometry("small", 4).lm, layers=2))
    config = dataclasses.replace(config, adapter=dataclasses.replace(config.adapter, layers=2))

    def measure(candidates: Sequence[Knobs], seconds: float) -> list[list[float]]:
        work = Workload(config, native, candidates)
        return [list(samples) for samples in zip(*(work.round() for _ in range(7)))]

    try:
        found = search({"isa": native.knobs()["isa"]}, measure, 60, start={"isa": slow})
        assert found.knobs.get("isa") != slow
        (told,) = [t.ratio.estimate for t in found.tried if t.taken]
        before, after = measure([{"isa": slow}, found.knobs], 0)
        measured = np.median(before) / np.median(after)
        assert told > 1.2 and measured > 1.2
        assert 1 / 3 < measured / told < 3, "on a machine where others run as well"
    finally:
        native.use({"isa": "auto", "threads": None, "layout": "interleaved"})


def saved(monkeypatch: pytest.MonkeyPatch, folder: Path, **change: str) -> tuning.Tuning:
    monkeypatch.setenv("INSTRUCT_MUSICGEN_CACHE", str(folder))
    monkeypatch.delenv(tuning.VARIABLE, raising=False)
    key = dataclasses.replace(tuning.Key.of("native"), **change)
    made = tuning.Tuning(key, {"threads": 1, "layout": "plain"}, 1.25, "2026-01-02T03:04:05")
    assert tuning.save(made) == folder / "tuning" / "native.json"
    return made


@pytest.mark.parametrize("fails", ("json.dumps", "os.replace"))
def test_a_tuning_that_cannot_be_written_leaves_what_was_there_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str
) -> None:
    before = saved(monkeypatch, tmp_path)

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"kernels.tuning.{fails}", full)
    with pytest.raises(OSError, match="No space left"):
        tuning.save(dataclasses.replace(before, gain=2.0))
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "tuning").iterdir()] == ["native.json"]
    monkeypatch.setenv("INSTRUCT_MUSICGEN_CACHE", str(tmp_path))
    assert tuning.saved("native") == before


USED = "import kernels; n = kernels.load('native'); print(n.info()['threads'], type(n).__name__)"


@pytest.mark.backend("native")
@pytest.mark.skipif(native.info()["threads"] < 2, reason="one core")
def test_what_was_kept_is_used_by_the_next_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = saved(monkeypatch, tmp_path)
    assert tuning.in_use("native") == made
    assert tuning.status("native") == 'threads=1, layout="plain" (1.25x, 2026-01-02)'
    printed = [
        subprocess.run([sys.executable, "-c", USED], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(1)
    ]
    assert printed == ["1 module\n"]


@pytest.mark.backend("native")
@pytest.mark.parametrize("field", ("architecture", "system", "mlx", "kernels"))
def test_a_tuning_of_another_machine_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str) -> None:
    saved(monkeypatch, tmp_path, **{field: "other"})
    assert tuning.in_use("native") is None
    assert tuning.status("native").startswith(f"not used, made for another {field}: threads=1")


@pytest.mark.parametrize("text", ("{", "[]", '{"key": {}}', '{"key": 1}'))
def test_a_damaged_tuning_is_one_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    monkeypatch.setenv("INSTRUCT_MUSICGEN_CACHE", str(tmp_path))
    monkeypatch.delenv(tuning.VARIABLE, raising=False)
    tuning.path("native").parent.mkdir()
    tuning.path("native").write_text(text)
    with pytest.warns(UserWarning, match=r"native\.json.*not used\. `bench tune` writes it anew"):
        assert tuning.in_use("native") is None
    assert tuning.status("native").startswith("not used: ")


def test_a_tuning_can_be_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    saved(monkeypatch, tmp_path)
    monkeypatch.setenv(tuning.VARIABLE, "off")
    assert tuning.in_use("native") is None and tuning.status("native") == "off (INSTRUCT_MUSICGEN_TUNING)"


def test_a_setting_to_begin_with_must_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--backend", "native", "--start", "isa=sse9"]) == 2
    assert "isa must be one of" in capsys.readouterr().err
    assert main(["tune", "--backend", "native", "--start", "speed=9"]) == 2
    assert "threads, isa, layout" in capsys.readouterr().err


M1, M3, M5 = "applegpu_g13g", "applegpu_g15s", "applegpu_g17s"


@pytest.mark.parametrize(
    ("architecture", "macos", "mlx", "stock", "ours"),
    [
        (M1, (15, 1), "0.32.4", [], [1, 2, 8, 9, 16, 17, 500]),
        (M3, (15, 1), "0.32.4", [9, 16], [1, 2, 8, 17, 500]),
        (M5, (26, 2), "0.32.4", [9, 16, 17, 500], [1, 2, 8]),
        (M5, (26, 1), "0.32.4", [9, 16], [1, 2, 8, 17, 500]),
        (M5, (26, 2), "0.33.0", [], [1, 2, 8, 9, 16, 17, 500]),
        ("unknown", (), "0.32.4", [], [1, 2, 8, 9, 16, 17, 500]),
    ],
)
def test_default_routes(
    architecture: str, macos: tuple[int, ...], mlx: str, stock: Sequence[int], ours: Sequence[int]
) -> None:
    choices = default(architecture, macos, mlx)
    assert all(choices.by_stock("int4_matmul", rows, 2048) for rows in stock)
    assert not any(choices.by_stock("int4_matmul", rows, 2048) for rows in ours)
    assert not choices.by_stock("prefix_attention", 2) and not choices.by_stock("cross_attention", 1)


def test_nax_takes_whole_blocks_of_sixteen_bits() -> None:
    choices = default(M5, (26, 2), "0.32.4")
    assert not choices.by_stock("int4_matmul", 500, 2048 + 32)
    assert not choices.by_stock("int4_matmul", 500, 2048, mx.float32)


def test_choices_are_read_back_as_they_are_written() -> None:
    made = Choices(norm="folded", outputs=2, attention_simdgroups=16, stock=(Route("int4_matmul", 2, 2),))
    assert Choices().changed(json.loads(json.dumps(made.json()))) == made


@pytest.mark.parametrize(
    "knobs",
    ({"norm": "outside"}, {"outputs": 3}, {"outputs": 16}, {"speed": 1}, {"stock": [[1, 2, 3]]}, {"stock": 5}),
)
def test_choices_that_cannot_be_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(knobs))):
        Choices().changed(knobs)


@pytest.mark.parametrize(
    "route", (["linear", 1], ["linear", 1, 2, True, 4], [], [1, 2, 3], ["linear", 1, 2, "no"], "abc", 5, None)
)
def test_a_route_that_cannot_be_is_named_with_the_form_it_needs(route: Any) -> None:
    message = rf"stock={re.escape(repr(route))} must be \[operation, first row, last row\] or .*, nax\]"
    with pytest.raises(ValueError, match=message):
        Choices().changed({"stock": [["int4_matmul", 2, 2, True], route]})
