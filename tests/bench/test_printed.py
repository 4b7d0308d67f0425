"""Every number that bench prints, made again from the saved samples by arithmetic of this file's own."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np
import pytest

import reference
from bench import cli, result_files, summary
from bench.kernels import timer
from bench.peers import command as peers
from bench.peers.table import table as peers_table
from bench.results import OURS, SCHEMA, EditColumn
from kernels import cases as kernel_cases

pytestmark = pytest.mark.slow

UNITS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0, "GB/s": 1e9, "GFLOP/s": 1e9}
STAGES = ("t5 load", "text", "text k/v", "codec encode", "adapter", "steps", "codec decode")


def printed(arguments: list[str]) -> tuple[dict[str, list[list[str]]], str]:
    """Run bench; the rows of its tables by their first cell, and all the text."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(arguments) == 0
    rows: dict[str, list[list[str]]] = {}
    for line in out.getvalue().splitlines():
        if line.startswith("│"):
            first, *cells = [cell.strip() for cell in line.strip("│").split("│")]
            rows.setdefault(first, []).append(cells)
    return rows, out.getvalue()


def number(cell: str) -> float:
    """A printed number in SI units."""
    found = re.match(r"~?([\d.]+) ?(%|x|[a-zA-Zµ/]+)?", cell)
    assert found, cell
    return float(found[1]) * UNITS.get(found[2] or "", 1.0)


def same(cell: str, value: float) -> None:
    assert number(cell) == pytest.approx(value, rel=0.0051), cell  # three digits


def spread(cell: str, samples: list[float]) -> None:
    low, middle, high = np.percentile(samples, (25, 50, 75))
    assert int(re.search(r"±(\d+) %", cell)[1]) == pytest.approx(100 * (high - low) / 2 / middle, abs=0.51)


def ratio(cell: str, pairs: list[float]) -> None:
    """The estimate, and the bootstrap interval as `bench.stats` documents it."""
    values = np.array(pairs)
    draws = np.random.default_rng(0).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(np.median(values[draws], axis=1), (0.025, 0.975))
    same(cell, float(np.median(values)))
    shown = re.search(r"\(([\d.]+)-([\d.]+)\)", cell)
    assert float(shown[1]) == pytest.approx(low, rel=0.0051) and float(shown[2]) == pytest.approx(high, rel=0.0051)


def streamed(bandwidth: dict[str, Any], later: list[list[float]]) -> float:
    """Bytes a second of the middle pass, of all that were made before and during the run."""
    return bandwidth["bytes"] / float(np.median(np.concatenate([bandwidth["seconds"], *later])))


def test_edit(tmp_path: Path) -> None:
    path = tmp_path / "edit.json"
    rows, text = printed(["--seconds", "0.2", "--repeat", "3", "--columns", "fused,reference", "--save", str(path)])
    result = json.loads(path.read_text())
    columns = result["columns"]
    stream = streamed(result["bandwidth"], result["bandwidth"].get("rounds", []))
    seen = set(rows) - {"stage"}
    times = []
    for column in columns:
        by_stage = {s: [r["seconds"][s] for r in column["rounds"]] for s in STAGES}
        times.append(by_stage | {"whole edit": [sum(parts) for parts in zip(*by_stage.values())]})
    for c, (column, mine) in enumerate(zip(columns, times)):
        for stage, samples in mine.items():
            same(rows[stage][0][c], float(np.median(samples)))
            spread(rows[stage][0][c], samples)
            seen -= {stage}
            if stage in STAGES:  # the second table's row of the same name
                same(rows[stage][1][c], max(r["peak_rss"][stage] for r in column["rounds"]))
        step, first = float(np.median(mine["steps"])) / 13, column["warmup"]["first"]
        read = sum(column["step_bytes"].values())
        start = (
            column["load_seconds"]
            + first["first_step"]
            + sum(first["seconds"][s] for s in STAGES[: STAGES.index("steps")])
        )
        rounds = [*column["rounds"], *column["warmup"].values()]
        resident = max(column["load_rss"], *(max(r["peak_rss"].values()) for r in rounds))
        for row, value in {
            "RTF": float(np.median(mine["whole edit"])) / 0.2,
            "per step": step,
            "of it, building its graph": float(np.median([np.median(r["build_seconds"]) for r in column["rounds"]])),
            "bytes a step must read": read,
            "read at": read / step,
            "of streaming bandwidth": 100 * read / step / stream,
            "adapter at": column["adapter_flops"] / float(np.median(mine["adapter"])),
            "load": column["load_seconds"],
            "CPU time of the kernel in it": column["load_kernel_seconds"],
            "to the first sound": column["first_sound"],
            "load to first step": start,
            "peak RSS": resident,
            "peak MLX memory": max(max(r["mlx_peak"].values()) for r in column["rounds"]),
        }.items():
            if row == "of streaming bandwidth":
                assert number(rows[row][0][c]) == pytest.approx(value, abs=0.51)
            else:
                same(rows[row][0][c], value)
            seen -= {row}
        assert int(rows["nodes of its graph"][0][c]) == sum(column["step_primitives"].values()) > 0
        seen -= {"nodes of its graph"}
    for stage in times[0]:
        ratio(rows[stage][0][2], [b / a for a, b in zip(times[0][stage], times[1][stage])])
    assert not seen  # no row without a check
    same(re.search(r"in this run: ([\d.]+ GB/s)", text)[1], stream)


def test_kernels(tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    _, text = printed(["kernels", "--size", "tiny", "--quick", "--limit", "0.05", "--repeat", "3", "--save", str(path)])
    result = json.loads(path.read_text())
    stream = streamed(result["bandwidth"], [case["stream"] for case in result["cases"]])
    body = [line for line in text.splitlines() if line.startswith("│")]
    lines = iter([[c.strip() for c in line.strip("│").split("│")] for line in body])
    for record in result["cases"]:
        stock = record["columns"]["stock MLX"]["seconds"]
        for label, column in record["columns"].items():
            cells = next(lines)
            while not cells[1]:  # a long name goes on in the next line
                cells = next(lines)
            middle = float(np.median(column["seconds"]))
            assert cells[1] == label
            same(cells[2], middle)
            assert float(cells[3]) == pytest.approx(column["reads"] / middle / 1e9, rel=0.0051)
            assert number(cells[4]) == pytest.approx(100 * column["reads"] / middle / stream, abs=0.51)
            assert float(cells[5]) == pytest.approx(record["flops"] / middle / 1e9, rel=0.0051)
            assert float(cells[6]) == pytest.approx(column["error"]["relative_l2"], rel=0.051)
            if label != "stock MLX":
                ratio(cells[7], [a / b for a, b in zip(stock, column["seconds"])])


def test_prefill_stands_beside_sgemm(tmp_path: Path) -> None:
    path = tmp_path / "prefill.json"
    arguments = ["kernels", "--size", "tiny", "--only", "int4_matmul qkv prefill", "--repeat", "3", "--limit", "0.2"]
    _, text = printed([*arguments, "--no-traffic", "--save", str(path)])
    record = json.loads(path.read_text())["cases"][0]
    if "native" not in record["columns"]:
        pytest.skip("no native backend here: no BLAS of ours to measure")
    pairs = [a / b for a, b in zip(*(record["columns"][c]["seconds"] for c in ("float32 sgemm", "native")))]
    ratio(re.search(r"native runs at (\S+x \(\S+\))", text)[1], pairs)
    assert record["columns"]["float32 sgemm"]["error"]["relative_l2"] < 1e-4  # the same matrix, the same oracle


def test_a_batch_makes_more_audio(tmp_path: Path) -> None:
    """Wall time over the audio of all rows; each as long as whole frames are."""
    path = tmp_path / "batch.json"
    rows, _ = printed(["--seconds", "0.11", "--batch", "3", "--repeat", "1", "--columns", "fused", "--save", str(path)])
    seconds = json.loads(path.read_text())["columns"][0]["rounds"][0]["seconds"]
    same(rows["RTF"][0][0], sum(seconds.values()) / (3 * 6 / 50))


def test_a_sample_is_the_time_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call takes 3 ms by a clock of our own; the sample is over as many calls as it was calibrated to."""
    now, calls = [0.0], []

    def call(*_: Any) -> Any:
        now[0] += 0.003
        calls.append(1)
        return mx.array(0.0)

    monkeypatch.setattr(timer, "call", call)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    runner = timer.KernelTimer("linear", reference, [{"x": mx.ones((1, 2)), "w": mx.ones((2, 2))}])
    runner.calibrate()
    assert runner.calls == int(timer.SAMPLE_SECONDS / 0.003) > 1 and len(calls) == 1 + runner.calls
    assert runner.sample() == pytest.approx(0.003)


def test_the_error_is_the_distance_from_the_oracle() -> None:
    case = kernel_cases.matmul("x", 2, 64, 64)
    arguments = case.make(kernel_cases.Draw())
    result = kernel_cases.call(reference, case.operation, kernel_cases.cast(arguments, reference))
    assert kernel_cases.error(case, arguments, 1.01 * result)["relative_l2"] == pytest.approx(0.01, rel=0.01)


def test_the_peak_is_the_largest_of_loading_warm_up_and_rounds() -> None:
    def column(load: int, warm: int, measured: int) -> EditColumn:
        peaks = {"text": 1, "steps": measured}, {"text": 2, "steps": 2}, {"text": warm}
        empty = {"seconds": {}, "measured": {}, "busy": [0, None, 0], "step_seconds": []}
        first, second, small = (empty | {"peak_rss": each} for each in peaks)
        geometry = dict.fromkeys(("bits", "frames", "steps", "batch"), 1)
        return result_files.convert(
            {
                "backend": "x",
                "geometry": geometry,
                "step_bytes": {},
                "load_rss": load,
                "warmup": {"first": small},
                "rounds": [first, second],
            },
            EditColumn,
        )

    assert [summary.peak_rss(column(*each)) for each in ((9, 5, 7), (5, 9, 7), (5, 7, 9))] == [9, 9, 9]


def test_peers_end_to_end(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    rows, _ = printed(["peers", "--size", "tiny", "--steps", "3", "--repeat", "3", "--start", "7", "--save", str(path)])
    result = json.loads(path.read_text())
    first, *others = result["columns"]
    assert first["label"] == OURS and {"ours, prefix of 251", "plain MLX, 4 bits"} <= {c["label"] for c in others}

    def middle(rounds: list[dict[str, Any]]) -> list[float]:
        assert len(rounds) == 3 and all(len(r["step_seconds"]) == 3 for r in rounds)
        return [float(np.median(r["step_seconds"])) for r in rounds]

    for column in result["columns"]:
        (cells,) = rows[column["label"]]
        same(cells[1], float(np.median(middle(column["rounds"]))))
        if column is not first:
            assert column["beside"] == first["rounds"]
            ratio(cells[2], [a / b for a, b in zip(middle(column["rounds"]), middle(column["beside"]))])
    assert "transformers" in result["left_out"] or any("torch" in c["label"] for c in others)


def test_peers() -> None:
    def rounds(*times: float) -> list[dict[str, Any]]:
        return [{"step_seconds": [t, t, 9.0], "backend": "x"} for t in times]

    environment = msgspec.to_builtins(result_files.origin()["environment"])
    result = {
        "kind": "peers",
        "schema": SCHEMA,
        "created": "2026-01-01",
        "environment": environment,
        "left_out": {"torch": "too large"},
        "settings": {"name": "n", "rows": 2, "start": 5, "text": 3, "repeat": 3, "steps": 3},
        "columns": [
            {"label": OURS, "rounds": rounds(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)},
            {"label": "other", "rounds": rounds(0.4, 0.8, 1.2), "beside": rounds(0.4, 0.4, 0.4)},
        ],
    }
    table = peers_table(result_files.parse(result))
    same(table.rows[0][2], 0.35)
    same(table.rows[1][2], 0.8)
    ratio(table.rows[1][3], [1.0, 2.0, 3.0])  # against ours of the same group, not of all
    assert any("torch: too large" in note for note in table.notes)


def test_peers_that_do_not_fit_together_run_apart() -> None:
    def peer(label: str, memory: int) -> peers.Peer:
        return peers.Peer(label, None, {}, memory)

    ours, small, big, huge = peer("o", 2), peer("s", 2), peer("b", 12), peer("h", 40)
    groups, too_large = peers.in_groups(ours, [small, big, huge], 19)
    assert groups == [[small], [big]] and too_large == [huge]
    assert peers.in_groups(ours, [small, big], 100) == ([[small, big]], [])
