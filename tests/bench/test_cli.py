"""The `bench` command: a run through its processes, tables that follow from the saved samples, and plain errors."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench import cli, result_files
from bench.edit import command as edit
from bench.kernels.shapes import cases
from bench.machine import environment
from bench.processes.child import Child
from kernels.cases import Draw
from model.synthetic import PRESETS

pytestmark = [pytest.mark.usefixtures("cache"), pytest.mark.slow]


def test_the_result_says_where_it_comes_from(saved: Any) -> None:
    e = json.loads(saved.read_text())["environment"]
    assert e["machine"] and e["cores"] >= 1 and e["libraries"]["mlx"] and e["commit"] and "dirty" in e
    assert e["native"] == environment.native_info()  # the instruction set and precision that its kernels ran with
    name = f"{e['slug']}-{e['commit']}-edit-tiny-4bit.json"
    assert result_files.default_path(result_files.load(saved)).name == name


def test_report(saved: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert cli.main(["report", str(saved), "-o", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "| whole edit |" in text and "Commit" in text
    pictures = re.findall(r"\]\((.+?\.png)\)", text)
    assert len(pictures) == 3 and all((tmp_path / p).stat().st_size > 5000 for p in pictures)
    assert cli.main(["report", "--no-plots", str(saved)]) == 0
    assert "| RTF |" in capsys.readouterr().out


def test_a_report_is_written_only_where_a_folder_is_named(
    saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, out = tmp_path / "results" / saved.name, tmp_path / "out"
    kept.parent.mkdir()
    kept.write_bytes(saved.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(result_files, "folder", lambda: kept.parent)
    for command in (["report"], ["report", str(kept)]):
        assert cli.main(command) == 0
        assert "| whole edit |" in capsys.readouterr().out
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [kept]
    assert cli.main(["report", "--no-plots", "-o", str(out)]) == 0
    assert [p.name for p in out.iterdir()] == ["report.md"] and "![" not in (out / "report.md").read_text()
    assert len(list(kept.parent.iterdir())) == 1


def test_rounds_interleave_and_the_warm_up_is_none_of_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    answers: dict[str, list[Any]] = {"fused": [], "reference": []}

    class Logged(Child):
        def ask(self, do: Any, **arguments: Any) -> Any:
            answer = super().ask(do, **arguments)
            asked.append((self.label, do))
            if do == "round" and self.label in answers:
                answers[self.label].append(answer)
            return answer

    monkeypatch.setattr(edit, "Child", Logged)
    path, some = tmp_path / "r.json", ["--seconds", "0.1", "--steps", "3", "--backend", "reference", "--repeat", "3"]
    assert cli.main([*some, "--columns", "fused,reference", "--save", str(path)]) == 0
    there, back = (("fused", "round"), ("reference", "round")), (("reference", "round"), ("fused", "round"))
    stream = ("bandwidth", "round")
    assert asked == [
        ("fused", "load"),
        ("reference", "load"),
        ("bandwidth", "load"),
        stream,
        *there,
        stream,
        *back,
        stream,
        *there,
    ]
    result = json.loads(path.read_text())
    assert {c["label"]: c["rounds"] for c in result["columns"]} == answers
    assert len(result["bandwidth"]["rounds"]) == 3


def test_json_is_the_whole_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--json", "--seconds", "0.1", "--repeat", "1", "--columns", "reference", "--steps", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["columns"][0]["rounds"][0]["measured"]["steps"] == [2, 8]


def test_kernels_and_roofline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "k.json")
    chosen = ["--size", "tiny", "--quick", "--limit", "0.05", "--only", "cross*"]
    assert cli.main(["kernels", *chosen, "--save", path]) == 0
    record = json.loads(Path(path).read_text())["cases"][0]
    assert all(column["error"]["relative_l2"] < 1e-4 for column in record["columns"].values())
    assert cli.main(["roofline", "--no-measure", "--json"]) == 0
    table = json.loads(capsys.readouterr().out.splitlines()[-1])
    m1 = next(c for c in table["chips"] if c["name"] == "M1")
    assert m1["ms_step"] == pytest.approx(sum(table["parts"].values()) / 68.25e6)
    assert 250 / 5 * m1["ms_step"] / 1e3 == pytest.approx(1.34, abs=0.01)  # the design's RTF of an M1
    assert cli.main(["roofline", "--no-measure"]) == 0
    assert "M4 Max" in capsys.readouterr().out


def test_kernel_cases_have_their_bytes_and_oracles() -> None:
    lm = PRESETS["tiny"].lm
    for case in cases(lm, PRESETS["tiny"].codec, group_size=32, frames=10):
        arguments = case.make(Draw())
        assert case.reads(arguments) > 0 and case.flops > 0
        assert all(name in arguments for name in case.needed)


def test_env(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["backends"]["reference"] is None and record["libraries"]["mlx"]


@pytest.mark.parametrize(
    ("arguments", "columns", "left_out"),
    [
        ([], "fused,reference", ""),
        (["--quick"], "fused,reference", ""),
        (["--size", "small"], "fused,reference,openblas", ""),
        (["--size", "small", "--quick"], "fused,reference", "openblas"),
        (["--size", "large", "--quick"], "fused", "openblas,reference"),
        (["--size", "large", "--quick", "--columns", "reference"], "reference", "openblas,reference"),
    ],
)
def test_which_columns_run(arguments: Any, columns: Any, left_out: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.machine.openblas.unavailable", lambda: None)
    args = cli.parser(["edit"]).parse_args(["edit", *arguments])
    assert edit._labels(args) == columns.split(",")
    assert list(edit._left_out(args)) == (left_out.split(",") if left_out else [])


def test_what_is_no_number_is_written_as_text() -> None:
    assert json.loads(result_files.dumps({"a": [float("nan"), (float("-inf"), 1.5)]})) == {"a": ["nan", ["-inf", 1.5]]}


def test_the_commit_of_another_project_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed into a virtual environment inside some other checkout."""
    for command in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "x", "--allow-empty"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(environment, "ROOT", (tmp_path / "site-packages"))
    (tmp_path / "site-packages").mkdir()
    assert environment.commit().startswith("v") and environment.dirty() is None
    monkeypatch.setattr(environment, "ROOT", tmp_path.resolve())
    assert len(environment.commit()) == 10 and environment.dirty() is False


def test_subcommands_of_others_are_found_by_name() -> None:
    assert {"edit", "kernels", "compare"} <= set(cli.modules())
    assert cli.modules(["edit", "not_there"]) == ["edit"]
