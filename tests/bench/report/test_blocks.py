"""The tables of docs/benchmarks.md are what `bench report` renders from the saved results they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import cli
from bench.report import blocks as page

PAGE = Path(__file__).parents[3] / "docs" / "benchmarks.md"


def differences(path: Path) -> list[str]:
    """Names of the saved results whose block in the page is not what they render to."""
    return [name for name, content in page.find_blocks(path.read_text()) if content != page.render_block(path, name)]


def test_the_page_equals_its_saved_results() -> None:
    text = PAGE.read_text()
    assert list(page.find_blocks(text)) or "No full-size result is saved" in text, (
        "the page has neither a <!-- bench:begin FILE.json --> block nor says that no result is saved"
    )
    assert text.count("<!-- bench:begin") == len(list(page.find_blocks(text)))
    assert differences(PAGE) == [], "run: bench report --update docs/benchmarks.md"
    for name, content in page.find_blocks(text):
        assert "rtf.png" not in content or page.picture(PAGE.parent / name).exists()


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("page")
    arguments = ["--seconds", "0.1", "--repeat", "1", "--columns", "fused", "--backend", "reference"]
    assert cli.main([*arguments, "--save", str(folder / "results" / "r.json")]) == 0
    path = folder / "README.md"
    path.write_text("before\n<!-- bench:begin results/r.json -->\nold\n<!-- bench:end -->\nafter\n")
    return path


@pytest.mark.slow
def test_update_fills_the_block_and_nothing_else(readme: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert cli.main(["report", "--update", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!--") and text.endswith("-->\nafter\n") and "old" not in text
    assert "| whole edit |" in text and "(results/r-rtf.png)" in text
    assert (readme.parent / "results" / "r-rtf.png").stat().st_size > 5000
    assert differences(readme) == []
    assert cli.main(["report", "--update", str(readme)]) == 0
    assert readme.read_text() == text  # again changes nothing


@pytest.mark.slow
def test_a_changed_number_is_noticed(readme: Any, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text((readme.parent / "results" / "r.json").read_text())
    path = tmp_path / "README.md"
    path.write_text("<!-- bench:begin r.json -->\n" + page.render_block(path, "r.json") + "<!-- bench:end -->\n")
    assert differences(path) == []
    result = json.loads((tmp_path / "r.json").read_text())
    result["columns"][0]["rounds"][0]["seconds"]["steps"] *= 2
    (tmp_path / "r.json").write_text(json.dumps(result))
    assert differences(path) == ["r.json"]


@pytest.mark.slow
def test_errors(readme: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = tmp_path / "plain.md"
    plain.write_text("no block")
    gone = tmp_path / "gone.md"
    gone.write_text("<!-- bench:begin x.json -->\n<!-- bench:end -->")
    (tmp_path / "other.json").write_text('{"benchmarks": []}')
    other = tmp_path / "other.md"
    other.write_text("<!-- bench:begin other.json -->\n<!-- bench:end -->")
    assert cli.main(["report", "--update", str(other)]) == 1
    assert "a `pytest-benchmark` result has no tables; name a result of bench" in capsys.readouterr().err
    assert cli.main(["report", "--update", str(plain)]) == 1
    assert cli.main(["report", "--update", str(gone)]) == 1
    assert cli.main(["report", "--update", str(tmp_path / "none.md")]) == 1
    assert cli.main(["report", "--update", str(plain), "--no-plots"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 4 and all(line.startswith("error: ") for line in err)
