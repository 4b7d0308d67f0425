"""The fused column with one operation that is not fused: `bench` names it and fails, whichever it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import kernels
from bench import cli
from bench.edit import command as edit
from bench.processes.child import Child
from bench.results import FUSED, OPERATIONS

pytestmark = [pytest.mark.backend("native"), pytest.mark.slow]

PLANT = """
import mlx.core as mx
import kernels.native, reference
from bench.processes.worker import main
{plant}
main()
"""
STOCK = """
own = kernels.native.linear
def linear(x, w, *, norm=None, **options):
    if norm is None:
        return own(x, w, **options)
    return mx.fast.layer_norm(x, norm.weight, norm.bias, norm.eps) @ w.T
kernels.native.linear = linear
"""
"""The output heads."""


def test_what_is_read_without_mlx_names_the_same_operations_as_kernels() -> None:
    assert (OPERATIONS, FUSED) == (kernels.OPERATIONS, kernels.FUSED)


def run(plant: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    program = folder / "worker.py"
    program.write_text(PLANT.format(plant=plant))

    class Planted(Child):
        def __init__(self, label: str, environment: Mapping[str, str] | None = None) -> None:
            other = {"command": [sys.executable, str(program)]} if label == "fused" else {}
            super().__init__(label, environment, **other)

    monkeypatch.setattr(edit, "Child", Planted)
    return cli.main(["--columns", "fused", "--backend", "native", "--seconds", "0.2", "--repeat", "1"])


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "prefix_attention"])  # part of another
def test_the_reference_in_its_place(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(f"kernels.native.{operation} = reference.{operation}", tmp_path, monkeypatch) == 1
    assert f" {operation}" in capfd.readouterr().err.partition("not fused: fused (native) ran without its own")[2]


def test_stock_mlx_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not through the reference: the graph of a step shows it."""
    assert run(STOCK, tmp_path, monkeypatch) == 1
    assert "ran without its own kernels: 1 Matmul\n" in capfd.readouterr().err


def test_nothing_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("", tmp_path, monkeypatch) == 0
    assert "not fused" not in capfd.readouterr().err
