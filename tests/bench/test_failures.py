"""`bench` given what is wrong, or interrupted: one line that says so, and nothing half-written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from bench import cli, result_files
from bench.processes.child import Child
from bench.results import SCHEMA
from model.errors import UserError

pytestmark = [pytest.mark.usefixtures("cache"), pytest.mark.slow]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--bits", "3"], 2, "--bits"),
        (["--keys", "map.json"], 2, "--keys belongs to --model"),
        (["--repeat", "0"], 2, "--repeat 0"),
        (["--steps", "-1"], 2, "--steps -1"),
        (["--batch", "0"], 2, "--batch 0"),
        (["--seconds", "0"], 2, "--seconds 0"),
        (["--columns", "fused,best"], 2, "'best'"),
        (["--columns", "fused,fused"], 2, "twice"),
        (["--model", "x", "--bits", "4"], 2, "--bits"),
        (["--model", "/nowhere", "--columns", "reference"], 1, "/nowhere"),
        (["--columns", "fused", "--backend", "cuda"], 2, "cuda"),
        (["nonsense"], 2, "nonsense"),
        (["kernels", "--only", "zzz*"], 2, "zzz"),
        (["kernels", "--backend", "cuda"], 2, "cuda"),
        (["roofline", "--seconds", "11"], 2, "11"),
        (["report", "/nowhere.json"], 1, "/nowhere.json"),
        (["compare", "a.json"], 2, "B.json"),
        (["--model", ""], 2, "--model"),
        (["--limit", "nan"], 2, "--limit nan"),
        (["--limit", "-1"], 2, "--limit -1"),
        (["--size", "large", "--seconds", "601"], 2, "--seconds 601"),
        (["peers", "--backend", "cuda"], 2, "cuda"),
        (["sizes", "--remove", ""], 2, "--remove"),
        (["fidelity", "--seed", "-1"], 2, "--seed -1"),
        (["fidelity", "--guidance", "nan"], 2, "--guidance nan"),
        (["fidelity", "--frames", "0"], 2, "--frames 0"),
        (["fidelity", "--backend", "cuda"], 2, "cuda"),
        (["fidelity", "--backends", "native", "cuda"], 2, "cuda"),
        (["quality", "--temperature", "nan"], 2, "--temperature nan"),
        (["quality", "--top-k", "-1"], 2, "--top-k -1"),
        (["quality", "--guidance", "inf"], 2, "--guidance inf"),
        (["quality", "--seeds", "0"], 2, "--seeds 0"),
        (["fidelity", "--texts", ""], 2, "--texts"),
        (["fidelity", "--texts", "Only Drums.", " \t"], 2, "--texts"),
        (["fidelity", "--texts="], 2, "--texts"),
        (["quality", "--clips", ""], 2, "--clips"),
        (["quality", "--out=", "--no-clap"], 2, "--out"),
        (["--save", ""], 2, "--save"),
        (["kernels", "--only", ""], 2, "--only"),
        (["roofline", "--result", ""], 2, "--result"),
        (["report", ""], 2, "an argument"),
    ],
)
def test_errors_are_one_line(arguments: Any, code: Any, says: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and says in err


@pytest.mark.skipif(mx.metal.is_available(), reason="auto takes the GPU here")
@pytest.mark.parametrize(
    "command",
    [
        ["fidelity", "--frames", "3", "--random-codes", "--by", "kind"],
        ["quality", "--no-clap", "--seconds", "0.1", "--seeds", "1"],
    ],
    ids=lambda c: c[0],
)
def test_that_the_reference_takes_over_is_said_once(command: Any, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *command, "--backends", "auto"],
        capture_output=True,
        text=True,
        env=os.environ | {"INSTRUCT_MUSICGEN_ACTIVATIONS": "int3"},
    )
    said = [line for line in done.stderr.splitlines() if "int3" in line]
    assert done.returncode == 0 and len(said) == 1 and said[0].startswith("warning: no fused backend")


def test_a_column_that_dies_is_explained() -> None:
    with Child("reference") as child, pytest.raises(UserError, match="reference column failed"):
        settings = {"model": "/nowhere", "backend": "reference", "seconds": 1}
        child.ask("load", make="bench.edit.session:column", settings=settings)
    with Child("reference") as child:
        child._process.kill()
        child._process.wait()  # so that the request meets a closed pipe, every time
        with pytest.raises(UserError, match="killed by signal 9"):
            child.ask("round")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '"x"',
        '{"kind": "edit"}',
        '{"kind": "edit", "schema": SCHEMA}',
        '{"kind": "edit", "schema": SCHEMA, "columns": []}',
        '{"kind": "edit", "schema": SCHEMA, "columns": 3}',
        '{"kind": "kernels", "schema": SCHEMA, "cases": [{}]}',
        '{"kind": "quality", "schema": SCHEMA}',
        '{"benchmarks": 3}',
        '{"benchmarks": [{}]}',
        b"\xff\xfe\x00",
        '{"kind": [], "schema": SCHEMA}',
        "[" * 100_000,
    ],
    ids=lambda content: repr(content)[:60],
)
@pytest.mark.parametrize(
    "command",
    [["compare", "F", "F"], ["report", "F", "--no-plots"], ["roofline", "--no-measure", "--result", "F"]],
    ids=lambda c: c[0],
)
def test_foreign_files_are_one_line(
    command: Any, content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(content if isinstance(content, bytes) else content.replace("SCHEMA", str(SCHEMA)).encode())
    assert cli.main([str(path) if a == "F" else a for a in command]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("value", ["NaN", "1e999", "0.0", "-1.0", '"1"', "null"])
def test_a_time_that_is_none_is_not_compared(
    value: Any, saved: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NaN above all: nothing is slower than that, so that no regression would be found."""
    path = tmp_path / "r.json"
    text, n = re.subn(r'"steps": \d+\.\d+', f'"steps": {value}', saved.read_text(), count=1)
    assert n == 1
    path.write_text(text)
    for command in (["compare", saved, path], ["report", "--no-plots", path], ["roofline", "--result", path]):
        assert cli.main([str(a) for a in command]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.splitlines()[-1].startswith(f"error: {path} is ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_what_was_measured_is_saved_where_it_cannot_be_printed(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    command = ["--seconds", "0.1", "--repeat", "1", "--columns", "reference", "--steps", "1", "--save", str(path)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bench.cli", *command], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and done.stderr.endswith("error: No space left on device\n")
    assert result_files.load(path).kind == "edit"


@pytest.mark.parametrize("command", ["fidelity", "quality"])
def test_an_out_folder_that_cannot_be_written_is_said_before_the_work(
    command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("model.bundle.bundle.open_bundle", lambda *_: pytest.fail("a model was opened"))
    assert cli.main([command, "--out", str(tmp_path / "file")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: cannot write") and err.count("\n") == 1


@pytest.mark.parametrize(("command", "begun"), [("fidelity", "generating"), ("quality", "editing")])
def test_an_interrupted_page_leaves_nothing(command: Any, begun: Any, tmp_path: Path) -> None:
    """Ctrl-C in the middle of the work, which a line on standard error says has begun."""
    options = ["--no-clap"] if command == "quality" else []
    run = subprocess.Popen(
        [sys.executable, "-m", "bench.cli", command, "--backend", "reference", "--out", str(tmp_path / "o"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while begun not in (line := run.stderr.readline()):
        assert line, "it ended before"
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130 and out == "" and err.splitlines()[-1] == "error: interrupted; no result was saved"
    assert "Traceback" not in err and not [p for p in tmp_path.rglob("*") if p.is_file()]
    with pytest.raises(ProcessLookupError):  # nothing of its group is left
        os.killpg(run.pid, 0)


def test_a_place_that_cannot_be_written_is_said_before_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "x.json"):
        for command in (["edit"], ["kernels"], ["peers"]):
            assert cli.main([*command, "--save", str(place)]) == 1
            out, err = capsys.readouterr()
            assert err.startswith("error: cannot write") and err.count("\n") == 1 and out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the columns' processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing(number: Any, code: Any, tmp_path: Path) -> None:
    """Ctrl-C goes to the whole group, as from a terminal; a kill to the parent alone."""
    path = tmp_path / "r.json"
    run = subprocess.Popen(
        [sys.executable, "-m", "bench.cli", "--seconds", "20", "--repeat", "99", "--save", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    deadline = time.monotonic() + 60
    while len(children.read_text().split()) < 2:
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    started = children.read_text().split()
    if number == signal.SIGINT:
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert run.returncode == code and out == "" and "Traceback" not in err and err.count("\n") <= 1
    assert list(tmp_path.iterdir()) == []
    for child in started:  # gone, or about to be taken away by the system
        status = Path(f"/proc/{child}/stat")
        assert not status.exists() or status.read_text().split()[2] == "Z"
