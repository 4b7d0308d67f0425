"""The work folder: the log, checkpoints, and one-line refusals on the command line."""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.demo.training.__main__ import main
from model.demo.training.workspace import Workspace, check_settings, replace
from model.errors import UserError


def test_rows_of_stages_that_run_at_once_are_all_kept(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: work.append_log(f"stage {n % 2}", {"n": n}), range(40)))
    log = json.loads(work.log_path.read_text())
    assert sorted(row["n"] for name in ("stage 0", "stage 1") for row in log[name]) == list(range(40))


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_text("whole")

    def broken(aside: Path) -> None:
        aside.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace(path, broken)
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_other_settings_is_refused_by_name_and_values() -> None:
    check_settings(Path("state.pt"), {"steps": 3}, {"steps": 3})
    with pytest.raises(UserError, match=r"state\.pt was made with bins=256, not 512"):
        check_settings(Path("state.pt"), {"bins": 256, "steps": 3}, {"bins": 512, "steps": 3})


@pytest.mark.parametrize("stage", ["codec", "encode", "model", "export"])
def test_without_torch_a_stage_stops_with_one_line(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    more = ["--out", str(tmp_path / "out")] if stage == "export" else []
    assert main([stage, "--work", str(tmp_path), *more]) == 1
    error = capsys.readouterr().err
    assert error == "error: torch is not installed; install the extra 'train' (pip install -e '.[train]')\n"


def test_judging_without_songs_says_which_stage_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from model.bundle.bundle import demo_path

    assert main(["judge", "--work", str(tmp_path), "--bundle", str(demo_path())]) == 1
    assert "run the stage 'compose' first" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-3"])
def test_counts_below_one_are_usage_errors(value: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compose", "--work", str(tmp_path), "--songs", value])
    assert stopped.value.code == 2
