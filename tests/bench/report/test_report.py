"""`bench report`: what its pictures show are the saved samples; its page is whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import cli, result_files
from bench.report import plots
from bench.roofline import apple_chips as chips

from ..conftest import full_disk
from ..test_printed import STAGES, same

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A saved edit, whose reference ran a part of its steps, and saved kernels with traffic."""
    folder = tmp_path_factory.mktemp("report")
    edit, kernels = folder / "an edit.json", folder / "kernels.json"
    small = ["--size", "tiny", "--only", "*qkv M=[12]", "--repeat", "3", "--limit", "0.1", "--traffic"]
    assert cli.main(["--seconds", "0.2", "--repeat", "3", "--limit", "0.01", "--save", str(edit)]) == 0
    assert cli.main(["kernels", *small, "--save", str(kernels)]) == 0
    plots.stages(result_files.load(edit))  # matplotlib writes a file of its own the first time
    return edit, kernels


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Axes of every picture as it is drawn."""
    out: list[Any] = []
    real = plots._png
    monkeypatch.setattr(plots, "_png", lambda axes: out.append(axes) or real(axes))
    return out


def bars(axes: Any) -> dict[str, list[float]]:
    return {c.get_label(): [bar.get_width() for bar in c] for c in axes.containers}


def points(axes: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): line.get_data() for line in axes.lines if not line.get_label().startswith("_")}


def saved(path: Path) -> Any:
    return json.loads(path.read_text())


def streamed(result: dict[str, Any]) -> float:
    record = result["bandwidth"]
    return float(record["bytes"] / np.median(np.concatenate([record["seconds"], *record["rounds"]])))


def table(text: str, title: str) -> dict[str, list[str]]:
    """Rows of the Markdown table under a title that begins so."""
    body = text.partition(f"### {title}")[2].partition("\n\n")[2].partition("\n\n")[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in body.splitlines()]
    return {first: rest for first, *rest in cells}


def test_a_projected_edit(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """What was run in part is scaled up, marked and named."""
    assert cli.main(["report", "--no-plots", str(files[0])]) == 0
    text = capsys.readouterr().out
    shown, result = table(text, "demo bundle"), saved(files[0])
    fused, reference = result["columns"]
    columns = [f"fused ({fused['backend']})", "reference"]
    assert f"| stage | {' | '.join(columns)} | reference / fused |" in text
    measured = reference["rounds"][0]["measured"]
    assert any(done < whole for done, whole in measured.values())
    whole = [np.zeros(len(c["rounds"])) for c in (fused, reference)]
    for stage in STAGES:
        done, all_ = measured.get(stage, (1, 1))
        slow = np.array([r["seconds"][stage] for r in reference["rounds"]]) * all_ / done
        fast = np.array([r["seconds"][stage] for r in fused["rounds"]])
        whole = [whole[0] + fast, whole[1] + slow]
        same(shown[stage][1], float(np.median(slow)))
        same(shown[stage][2], float(np.median(slow / fast)))
        assert shown[stage][1].startswith("~") == shown[stage][2].startswith("~") == (done < all_)
        assert (f"{stage} from {done} of {all_}" in text) == (done < all_)
    for row, values in {"whole edit": whole[1], "RTF": whole[1] / 0.2}.items():
        same(shown[row][1], float(np.median(values)))
        assert shown[row][1].startswith("~") and not shown[row][0].startswith("~")
    done, _ = measured["steps"]
    step = float(np.median([r["seconds"]["steps"] / done for r in reference["rounds"]]))
    same(shown["per step"][1], step)
    same(shown["read at"][1], sum(reference["step_bytes"].values()) / step)


def test_traffic_table(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "--no-plots", str(files[1])]) == 0
    shown = table(capsys.readouterr().out, "traffic")
    for case in saved(files[1])["cases"]:
        launches, needed, loaded, by_buffer, error = shown[case["case"]]
        buffers = case["traffic"]["buffers"]
        total = {kind: sum(b[kind] for b in buffers.values()) for kind in ("needed", "loaded")}
        same(needed, total["needed"])
        same(loaded, total["loaded"] / total["needed"])
        for part, (name, b) in zip(by_buffer.split(", "), buffers.items()):
            assert part.startswith(f"{name} ")
            same(part.removeprefix(f"{name} "), b["loaded"] / b["needed"])
        assert int(launches) == case["traffic"]["launches"]
        assert float(error) == pytest.approx(case["traffic"]["error"]["relative_l2"], rel=0.051)


def test_stages(files: tuple[Path, Path], drawn: list[Any]) -> None:
    result = saved(files[0])
    assert plots.stages(result_files.parse(result)).startswith(b"\x89PNG")
    for column, (_, shown) in zip(result["columns"], bars(drawn[0]).items()):
        measured = column["rounds"][0]["measured"]
        scale = {s: b / a for s, (a, b) in (dict.fromkeys(STAGES, (1, 1)) | measured).items()}
        rounds = [[r["seconds"][s] * scale[s] for s in STAGES] for r in column["rounds"]]
        wanted = [*np.median(rounds, axis=0), np.median(np.sum(rounds, axis=1))]
        assert shown == pytest.approx([w / 0.2 for w in wanted])


def test_step_time(files: tuple[Path, Path], drawn: list[Any]) -> None:
    result = saved(files[0])
    plots.step_time(result_files.parse(result))
    shown = list(points(drawn[0]).items())
    for column, (label, (x, y)) in zip(result["columns"], shown):
        assert list(x) == [p + 1 for p in column["step_positions"]]
        assert list(y) == pytest.approx(1e3 * np.median([r["step_seconds"] for r in column["rounds"]], axis=0))
        done, whole = column["rounds"][0]["measured"]["steps"]
        assert (f"({done} of {whole} steps)" in label) == (done < whole)
    label, (_, y) = shown[-1]
    least = 1e3 * sum(result["columns"][0]["step_bytes"].values()) / streamed(result)
    assert list(y) == pytest.approx([least] * 2) and f"{least:.3g} ms" in label


def test_steps_of_several_windows_stand_at_their_cache_lengths(files: tuple[Path, Path], drawn: list[Any]) -> None:
    result = saved(files[0])
    column = result["columns"][0]
    column["step_positions"] = [p % 8 for p in column["step_positions"]]
    plots.step_time(result_files.parse(result))
    x, _ = next(iter(points(drawn[0]).values()))
    assert max(x) == 8


def test_roofline(files: tuple[Path, Path], drawn: list[Any]) -> None:
    """Two models: each has the line of its own bytes, and its points are above it."""
    first = saved(files[0])
    second = json.loads(json.dumps(first))
    for column in second["columns"]:
        column["step_bytes"] = {name: 3 * value for name, value in column["step_bytes"].items()}
    both: list[Any] = [result_files.parse(first), result_files.parse(second)]
    plots.roofline(both)
    lines = [line.get_data() for line in drawn[0].lines]
    for result, (x, y) in zip((first, second), lines):
        assert list(x * y) == pytest.approx([sum(result["columns"][0]["step_bytes"].values()) / 1e6] * 2)
    names = ", ".join(text.get_text() for text in drawn[0].texts)
    assert all(chip.name.partition(" (")[0] in names for chip in chips.CHIPS)
    shown = lines[2 + len(plots.chip_groups()) :]
    wanted = [(r, c) for r in (first, second) for c in r["columns"]]
    assert len(shown) == len(wanted)
    for (result, column), (x, y) in zip(wanted, shown):
        done, _ = column["rounds"][0]["measured"]["steps"]
        assert list(x) == pytest.approx([streamed(result) / 1e9])
        assert list(y) == pytest.approx([1e3 * np.median([r["seconds"]["steps"] / done for r in column["rounds"]])])


def test_traffic_and_kernels(files: tuple[Path, Path], drawn: list[Any]) -> None:
    result = saved(files[1])
    plots.traffic(result_files.parse(result))
    plots.kernels(result_files.parse(result))
    loaded, needed = bars(drawn[0]).values()
    for n, case in enumerate(result["cases"]):
        assert loaded[n] == pytest.approx(sum(b["loaded"] for b in case["traffic"]["buffers"].values()) / 1e6)
        assert needed[n] == pytest.approx(sum(b["needed"] for b in case["traffic"]["buffers"].values()) / 1e6)
    for label, shown in bars(drawn[1]).items():
        pairs = [(c["columns"]["stock MLX"]["seconds"], c["columns"][label]["seconds"]) for c in result["cases"]]
        assert shown == pytest.approx([np.median(np.divide(*pair)) - 1 for pair in pairs])  # bars begin at 1


def test_the_page_has_all_pictures(files: tuple[Path, Path], tmp_path: Path) -> None:
    assert cli.main(["report", *map(str, files), "-o", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text()
    names = ["an edit-rtf", "an edit-steps", "kernels-times", "kernels-traffic", "roofline"]
    assert sorted(p.stem for p in tmp_path.glob("*.png")) == names
    for name in names:
        assert f"![{name}]({name.replace(' ', '%20')}.png)" in text


def test_two_results_of_one_name(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / files[0].name).write_text(files[0].read_text())
    out = tmp_path / "out"
    assert cli.main(["report", str(files[0]), str(tmp_path / files[0].name), "-o", str(out)]) == 1
    assert "two results are named an edit.json" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize("what", ["report", "update"])
def test_a_full_disk_leaves_what_was_there(what: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- bench:begin edit.json -->\n<!-- bench:end -->\n")
    (tmp_path / "edit.json").write_text(files[0].read_text())
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    command = ["report", "edit.json", "-o", "."] if what == "report" else ["report", "--update", page.name]
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *command],
        capture_output=True,
        text=True,
        preexec_fn=full_disk,
        cwd=tmp_path,
    )
    assert done.returncode == 1 and done.stderr.startswith("error: cannot write") and done.stderr.count("\n") == 1
    assert done.stdout == "" and {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_any_locale(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Text for a terminal that knows ASCII alone; files in UTF-8 all the same."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command in (["report", "--no-plots", str(files[0])], ["report", str(files[0]), "-o", str(tmp_path)]):
        done = subprocess.run(
            [sys.executable, "-m", "bench.cli", *command], capture_output=True, env=os.environ | ascii_only
        )
        assert done.returncode == 0 and done.stderr == b"" and done.stdout.isascii()
    assert "±" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize(
    "command",
    [
        ["report", "--no-plots", "F"],
        ["compare", "F", "F"],
        ["compare", "F", "F", "--json"],
        ["roofline", "--no-measure"],
        ["env"],
        ["sizes"],
    ],
    ids=" ".join,
)
def test_a_full_disk_behind_standard_output(command: list[str], files: tuple[Path, Path]) -> None:
    arguments = [str(files[0]) if a == "F" else a for a in command]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bench.cli", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and done.stderr == "error: No space left on device\n"


@pytest.mark.parametrize(("mark", "end"), [("", "\n"), ("", "\r\n"), ("\ufeff", "\r\n"), ("\ufeff", "\n")])
def test_updating_a_page_changes_its_blocks_only(files: tuple[Path, Path], tmp_path: Path, mark: str, end: str) -> None:
    """Line ends and a byte order mark stay; a result's name may have spaces and brackets."""
    (tmp_path / "an edit [1].json").write_bytes(files[0].read_bytes())
    lines = [f"{mark}# Title", "", "<!-- bench:begin an edit [1].json -->", "<!-- bench:end -->", "last"]
    page = tmp_path / "page.md"
    page.write_bytes(end.join(lines).encode())
    assert cli.main(["report", "--update", str(page)]) == 0
    text = page.read_bytes().decode()
    assert text.startswith(end.join(lines[:3]) + end) and text.endswith(end + end.join(lines[3:]))
    assert "| stage |" in text and text.count("\n") == text.count(end) > 10
    assert "(an%20edit%20%5B1%5D-rtf.png)" in text and (tmp_path / "an edit [1]-rtf.png").exists()
    assert cli.main(["report", "--update", str(page)]) == 0 and page.read_bytes().decode() == text
