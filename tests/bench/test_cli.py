"""The `bench` command: a run through its processes, tables that follow from the saved samples, and plain errors."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from bench import cli, edit, peers, results, sizes, summary
from bench.columns import Child
from bench.kernel_cases import cases
from bench.session import STAGES
from model.errors import UserError
from model.synthetic import PRESETS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A real run, saved: two columns in processes of their own."""
    path = tmp_path_factory.mktemp("bench") / "run.json"
    code = cli.main(["--seconds", "0.2", "--repeat", "3", "--size", "demo", "--columns", "fused,reference",
                     "--save", str(path)])
    assert code == 0
    return path


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSTRUCT_MUSICGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def seconds(cell: str) -> float:
    """A printed time, in seconds."""
    number, unit = re.match(r"~?([\d.]+) (s|ms|µs)", cell).groups()
    return float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit]


def test_every_printed_number_follows_from_the_samples(saved):
    result = json.loads(saved.read_text())
    rows = {row[0]: row[1:] for row in summary.table(results.load(saved)).rows}
    fused, plain = result["columns"]
    whole = {}
    for c, column in enumerate(result["columns"]):
        times = {s: [r["seconds"][s] for r in column["rounds"]] for s in STAGES}
        whole[c] = np.sum(list(times.values()), axis=0)
        for stage in STAGES:
            assert seconds(rows[stage][c]) == pytest.approx(np.median(times[stage]), rel=0.006)
        assert seconds(rows["whole edit"][c]) == pytest.approx(np.median(whole[c]), rel=0.006)
        assert float(rows["RTF"][c]) == pytest.approx(np.median(whole[c]) / 0.2, rel=0.006)
        step = np.median(times["steps"]) / 13
        assert seconds(rows["per step"][c]) == pytest.approx(step, rel=0.006)
        rate = sum(column["step_bytes"].values()) / step
        assert float(rows["read at"][c].split()[0]) == pytest.approx(rate / 1e9, rel=0.006)
        streaming = result["bandwidth"]["bytes"] / np.median(result["bandwidth"]["seconds"])
        assert float(rows["of streaming bandwidth"][c].split()[0]) == pytest.approx(100 * rate / streaming, abs=0.51)
        rss = max(column["load_rss"], *(b for r in [*column["rounds"], *column["warmup"].values()]
                                        for b in r["peak_rss"].values()))
        assert float(rows["peak RSS"][c].split()[0]) == pytest.approx(rss / 1e6, rel=0.006)
    for stage in STAGES:
        pairs = [b["seconds"][stage] / a["seconds"][stage] for a, b in zip(fused["rounds"], plain["rounds"])]
        assert float(rows[stage][2].split("x")[0]) == pytest.approx(np.median(pairs), rel=0.006)


def test_the_result_says_where_it_comes_from(saved):
    e = results.load(saved)["environment"]
    assert e["machine"] and e["cores"] >= 1 and e["libraries"]["mlx"] and e["commit"] and "dirty" in e
    name = f"{e['slug']}-{e['commit']}-edit-demo-bundle-4bit.json"
    assert results.default_path(results.load(saved)).name == name


def test_report(saved, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert cli.main(["report", str(saved), "-o", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "| whole edit |" in text and "Commit" in text
    pictures = re.findall(r"\]\((.+?\.png)\)", text)
    assert len(pictures) == 3 and all((tmp_path / p).stat().st_size > 5000 for p in pictures)
    assert cli.main(["report", "--no-plots", str(saved)]) == 0
    assert "| RTF |" in capsys.readouterr().out


def test_json_is_the_whole_result(capsys):
    assert cli.main(["--json", "--seconds", "0.1", "--repeat", "1", "--columns", "reference", "--steps", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["columns"][0]["rounds"][0]["measured"]["steps"] == [2, 8]


def test_kernels_and_roofline(tmp_path, capsys):
    path = str(tmp_path / "k.json")
    chosen = ["--size", "demo", "--quick", "--limit", "0.05", "--only", "cross*"]
    assert cli.main(["kernels", *chosen, "--save", path]) == 0
    record = results.load(path)["cases"][0]
    assert all(column["error"]["relative_l2"] < 1e-4 for column in record["columns"].values())
    assert cli.main(["roofline", "--no-measure", "--json"]) == 0
    table = json.loads(capsys.readouterr().out.splitlines()[-1])
    m1 = next(c for c in table["chips"] if c["name"] == "M1")
    assert m1["ms_step"] == pytest.approx(sum(table["parts"].values()) / 68.25e6)
    assert 250 / 5 * m1["ms_step"] / 1e3 == pytest.approx(1.34, abs=0.01)  # the design's RTF of an M1
    assert cli.main(["roofline", "--no-measure"]) == 0
    assert "M4 Max" in capsys.readouterr().out


def test_kernel_cases_have_their_bytes_and_oracles():
    lm = PRESETS["demo"].lm
    for case in cases(lm, PRESETS["demo"].codec, group_size=32, frames=10):
        arguments = case.make(np.random.default_rng(0))
        assert case.reads(arguments) > 0 and case.flops > 0
        assert all(name in arguments for name in case.needed)


def test_env(capsys):
    assert cli.main(["env", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["backends"]["reference"] is None and record["libraries"]["mlx"]


def test_sizes(capsys):
    sizes.bundle("demo", 8)
    assert cli.main(["sizes"]) == 0 and "demo-8bit" in capsys.readouterr().out
    assert cli.main(["sizes", "--remove", "nope"]) == 2
    assert cli.main(["sizes", "--remove", "all"]) == 0
    assert sizes.stored() == {}


@pytest.mark.parametrize(("arguments", "code", "says"), [
    (["--bits", "3"], 2, "--bits"),
    (["--repeat", "0"], 2, "--repeat 0"),
    (["--steps", "-1"], 2, "--steps -1"),
    (["--batch", "0"], 2, "--batch 0"),
    (["--seconds", "0"], 2, "--seconds 0"),
    (["--columns", "fused,best"], 2, "'best'"),
    (["--columns", "fused,fused"], 2, "twice"),
    (["--model", "x", "--bits", "4"], 2, "--bits"),
    (["--model", "/nowhere", "--columns", "reference"], 1, "/nowhere"),
    (["--columns", "fused", "--backend", "cuda"], 1, "cuda"),
    (["nonsense"], 2, "nonsense"),
    (["kernels", "--only", "zzz*"], 2, "zzz"),
    (["kernels", "--backend", "cuda"], 2, "cuda"),
    (["roofline", "--seconds", "11"], 2, "11"),
    (["report", "/nowhere.json"], 1, "/nowhere.json"),
    (["compare", "a.json"], 2, "B.json"),
])
def test_errors_are_one_line(arguments, code, says, capsys):
    assert cli.main(arguments) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and says in err


def test_a_column_that_dies_is_explained():
    with Child("reference") as child, pytest.raises(UserError, match="reference column failed"):
        child.ask("load", settings={"model": "/nowhere", "backend": "reference", "seconds": 1})
    with Child("reference") as child:
        child._process.kill()
        child._process.wait()  # so that the request meets a closed pipe, every time
        with pytest.raises(UserError, match="killed by signal 9"):
            child.ask("round")


def test_subcommands_of_others_are_found_by_name():
    assert {"edit", "kernels", "compare"} <= set(cli.modules())
    assert cli.modules(["edit", "not_there"]) == ["edit"]
    assert peers and edit
