"""bench compare: the same code is no difference, a planted slowdown is one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import cli, result_files
from bench.compare import command as compare
from bench.machine import hardware
from bench.results import SCHEMA
from model.stages import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.serial]

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {
    "machine": "test",
    "slug": "test",
    "cores": 2,
    "memory": 8 << 30,
    "os": "test",
    "python": "3",
    "libraries": {},
    "commit": "0",
    "dirty": False,
}


def edit(
    seed: int, *, slower: float = 1.0, rounds: int = 9, noise: float = 0.06, load: float = 0.0, disturbed: int = 0
) -> dict[str, Any]:
    """A result as `bench edit` saves it, of lognormal times whose rounds share a common drift. In the first `disturbed`
    rounds another program takes a core, which costs the fused column half its speed and the other nothing."""
    rng = np.random.default_rng(seed)
    columns = []
    drift = rng.lognormal(0, 0.2, rounds)
    for label, base in (("fused", 0.05 * slower), ("reference", 0.5)):
        times = base * drift[:, None] * rng.lognormal(0, noise, (rounds, len(STAGES)))
        loads = np.full(rounds, load)
        loads[:disturbed] = 1.0
        if label == "fused":
            times[:disturbed] *= 2
        columns.append(
            {
                "label": label,
                "backend": "native" if label == "fused" else "reference",
                "geometry": {"bits": 4, "steps": 10, "frames": 7, "batch": 1},
                "step_bytes": {"weights": 1 << 20},
                "rounds": [
                    {
                        "seconds": dict(zip(STAGES, map(float, row))),
                        "measured": {},
                        "busy": [1.0, 1.0 + other, 1.0],
                        "step_seconds": list(row[STAGES.index("steps")] / 10 * rng.lognormal(0, noise, 10)),
                    }
                    for row, other in zip(times, loads)
                ],
            }
        )
    return {
        "schema": SCHEMA,
        "kind": "edit",
        "environment": ENVIRONMENT,
        "settings": {"name": "x"},
        "columns": columns,
        "bandwidth": {"bytes": 1 << 28, "seconds": [0.1], "rounds": [[0.1 * d] * 3 for d in drift]},
    }


def verdicts(a: dict[str, Any], b: dict[str, Any], **options: bool) -> list[compare.Verdict]:
    return compare.compare(*(result_files.parse(json.loads(json.dumps(each))) for each in (a, b)), **options)


def outcomes(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    return [v.outcome for v in verdicts(a, b)]


def test_the_same_commit_is_no_difference() -> None:
    false = sum("regression" in outcomes(edit(2 * s), edit(2 * s + 1)) for s in range(40))
    assert false <= 2  # of 40 pairs of runs, eight comparisons each


def test_a_planted_slowdown_of_20_percent_is_caught() -> None:
    caught = sum("regression" in outcomes(edit(2 * s), edit(2 * s + 1, slower=1.2)) for s in range(40))
    assert caught >= 38


def test_faster_is_no_regression() -> None:
    found = outcomes(edit(0, rounds=20), edit(1, slower=0.6, rounds=20))
    assert set(found) == {"improvement"}


def test_others_load_explains_a_slowdown() -> None:
    a, b = edit(0), edit(1, slower=1.5)
    assert "regression" in outcomes(a, b)
    assert "regression" not in outcomes(a, edit(1, slower=1.5, load=1.0))


def test_other_cores_are_not_seen_as_other_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fused column uses all cores, the reference one."""
    one, two = edit(0, slower=1.9), edit(1)
    one["environment"] = ENVIRONMENT | {"cores": 1}
    assert not {"regression", "improvement"} & {*outcomes(two, one), *outcomes(one, two)}
    assert "regression" in outcomes(two, {**edit(0, slower=3), "environment": one["environment"]})
    cli.main(["compare", write(tmp_path / "a.json", two), write(tmp_path / "b.json", one)])
    assert "A had 2 cores, B 1" in " ".join(capsys.readouterr().out.split())


def test_a_neighbor_that_leaves_is_not_seen_as_faster_code() -> None:
    """Whichever run it disturbed, and whether the code gained or lost by it."""
    quiet, shared = edit(0), edit(1, slower=1.5, load=1.0)
    assert not {"regression", "improvement"} & set(outcomes(shared, quiet))
    shared = edit(1, slower=0.6, load=1.0)
    assert not {"regression", "improvement"} & {*outcomes(shared, quiet), *outcomes(quiet, shared)}


def test_rounds_that_a_neighbor_disturbed_are_left_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a = edit(0, rounds=20)
    for disturbed in (3, 14):
        b = edit(1, rounds=20, disturbed=disturbed)
        assert "regression" not in outcomes(a, b)
        assert {v.samples for v in verdicts(a, b)} == {(20, 20 - disturbed)}
        slow = edit(1, rounds=20, disturbed=disturbed, slower=1.25)
        assert "regression" in outcomes(a, slow)
    cli.main(["compare", write(tmp_path / "a.json", a), write(tmp_path / "b.json", b)])
    assert "B: 14 rounds left out" in " ".join(capsys.readouterr().out.split())


def test_bursts_within_a_round_are_not_the_steps_time() -> None:
    a, b = edit(0, rounds=20, noise=0.02), edit(1, rounds=20, noise=0.02)
    for r in b["columns"][0]["rounds"]:
        r["step_seconds"] = [3 * v if n < 4 else v for n, v in enumerate(r["step_seconds"])]
    assert [v.outcome for v in verdicts(a, b) if v.name.endswith(": steps")] == ["no difference"]


def test_too_few_undisturbed_rounds_count_with_the_others() -> None:
    b = edit(1, rounds=20, disturbed=17)
    found = verdicts(edit(0, rounds=20), b)
    assert {v.samples for v in found} == {(20, 20)} and "regression" not in [v.outcome for v in found]
    assert all(v.load[1] > hardware.MIN_BUSY_CORES for v in found)


def test_seconds_on_request() -> None:
    b = edit(1)
    for column in b["columns"]:  # a slower machine: both columns alike
        for r in column["rounds"]:
            r["seconds"] = {k: 2 * v for k, v in r["seconds"].items()}
            r["step_seconds"] = [2 * v for v in r["step_seconds"]]
    assert "regression" not in outcomes(edit(0), b)
    assert "regression" in [v.outcome for v in verdicts(edit(0), b, seconds=True)]


def write(path: Any, result: Any) -> str:
    path.write_text(json.dumps(result))
    return str(path)


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write(tmp_path / "a.json", edit(0)), write(tmp_path / "b.json", edit(1, slower=1.2))
    assert cli.main(["compare", a, a]) == 0
    assert cli.main(["compare", a, b]) == 1
    assert "regression" in capsys.readouterr().out
    assert cli.main(["compare", a, b, "--threshold", "60"]) == 0
    assert cli.main(["compare", a, b, "--threshold", "-1"]) == 2
    assert cli.main(["compare", a, str(tmp_path / "none.json")]) == 1
    assert cli.main(["compare", a, write(tmp_path / "c.json", {"what": 1})]) == 1
    other = copy.deepcopy(edit(0))
    other["settings"]["name"] = "y"
    assert cli.main(["compare", a, write(tmp_path / "d.json", other)]) == 1
    for part in ({"frames": 8}, {"batch": 2}, {"bits": 8}):  # another clip takes another time
        other = copy.deepcopy(edit(1))
        for column in other["columns"]:
            column["geometry"] |= part
        assert cli.main(["compare", a, write(tmp_path / "e.json", other)]) == 1
    assert all(line.startswith("error: ") for line in capsys.readouterr().err.splitlines())


def test_reads_pytest_benchmark(tmp_path: Path) -> None:
    def run(seed: int, slower: float, *, pairs: bool = True) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        machine = rng.lognormal(0, 0.2) * rng.lognormal(0, 0.1, 60)
        fused, base = (list(t * machine * rng.lognormal(0, 0.03, 60)) for t in (0.1 * slower, 1.0))
        extra = {"case": "k", "column": "native"} | ({"reference_seconds": base} if pairs else {})
        return {
            "benchmarks": [
                {"name": "t[native]", "extra_info": extra, "stats": {"data": fused}},
                {"name": "t[reference]", "extra_info": {"case": "k", "column": "reference"}, "stats": {"data": base}},
            ]
        }

    a, b, slow = (write(tmp_path / f"{n}.json", run(n, s)) for n, s in ((0, 1.0), (1, 1.0), (2, 1.2)))
    assert cli.main(["compare", a, b]) == 0
    assert cli.main(["compare", a, slow]) == 1
    bare = {"benchmarks": [{"name": "t", "stats": {}}]}
    assert cli.main(["compare", a, write(tmp_path / "bare.json", bare)]) == 1
    others = verdicts(run(0, 1.0, pairs=False), run(0, 1.2, pairs=False))  # without pairs: seconds
    assert [(v.outcome, v.relative) for v in others] == [("regression", False)]


def test_what_only_one_result_measured_is_named_and_fails_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def benchmarks(*names: str) -> dict[str, Any]:
        times = list(np.random.default_rng(0).lognormal(0, 0.01, 30))
        return {"benchmarks": [{"name": name, "stats": {"data": times}, "extra_info": {}} for name in names]}

    a = write(tmp_path / "a.json", benchmarks("one", "two"))
    b = write(tmp_path / "b.json", benchmarks("two", "three"))
    assert cli.main(["compare", a, a]) == 0 and capsys.readouterr().err == ""
    fast = copy.deepcopy(edit(0))
    for each in fast["columns"][0]["rounds"]:
        each["seconds"][STAGES[1]] = 1e-4  # too short to judge, and measured all the same
    edits = write(tmp_path / "c.json", edit(0)), write(tmp_path / "d.json", fast)
    assert cli.main(["compare", *edits]) == 0 and capsys.readouterr().err == ""
    assert cli.main(["compare", a, b]) == 1
    told = capsys.readouterr()
    assert "two" in told.out
    assert told.err.splitlines() == [
        f"error: one is in {a} only: not compared; measure it with both commits",
        f"error: three is in {b} only: not compared; measure it with both commits",
    ]
