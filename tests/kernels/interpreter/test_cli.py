"""`python -m kernels.interpreter check`: its verdict, its exit status, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.interpreter.cli import main

pytestmark = pytest.mark.backend("interpreter")

SUMS = """// Row sums.
// check: --input a=float16[4,100] --output out=float32[4] --grid 32 4 --threadgroup 32 --template T=float16
// check: --input a=float32[2,7] --output out=float32[2] --grid 32 2 --threadgroup 32 --template T=float32
uint row = thread_position_in_grid.y;
float total = 0;
for (int i = thread_index_in_simdgroup; i < a_shape[1]; i += 32) total += float(a[row * a_shape[1] + i]);
total = simd_sum(total);
if (thread_index_in_simdgroup == 0) out[row] = total;
"""


def check(tmp_path: Path, source: str, *options: str) -> int:
    file = tmp_path / "sums.metal"
    file.write_text(source)
    return main(["check", str(file), *options])


def test_a_clean_file(tmp_path: Path, capsys: Any) -> None:
    assert check(tmp_path, SUMS, "--fp", "off", "fast") == 0
    out = capsys.readouterr().out
    assert out.count("clean;") == 2
    assert " 800          800          800" in out  # a: size, loaded, of them once


def test_a_fault_is_named_with_its_line(tmp_path: Path, capsys: Any) -> None:
    assert check(tmp_path, SUMS.replace("out[row]", "out[row + 1]"), "--seeds", "0") == 1
    out = capsys.readouterr().out
    assert "sums at line 8: out-of-bounds" in out
    assert "buffer out, byte 16" in out


def test_results_that_depend_on_the_order_of_threads(tmp_path: Path, capsys: Any) -> None:
    source = """device atomic_uint* count = (device atomic_uint*)n;
out[thread_position_in_grid.x] = atomic_fetch_add_explicit(count, 1u, memory_order_relaxed);"""
    launch = ["-o", "n=uint32[1]", "-o", "out=uint32[64]", "-g", "64", "-t", "64", "--init-value", "0"]
    assert check(tmp_path, source, *launch) == 1
    assert "the order of threads matters" in capsys.readouterr().out


def test_files_as_inputs(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "a.npy", np.arange(8, dtype=np.int32))
    source = "out[thread_position_in_grid.x] = a[thread_position_in_grid.x];"
    assert check(tmp_path, source, "-i", f"a={tmp_path}/a.npy", "-o", "out=int32[8]", "-g", "8", "-t", "8") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "has no output"),
        (["-o", "out=floa[1]"], "is no dtype"),
        (["-o", "out"], "is not NAME=DTYPE[SHAPE]"),
        (["-o", "out=float[1]"], "--grid needs"),
    ],
)
def test_wrong_usage_says_what_is_right(tmp_path: Path, capsys: Any, options: list[str], message: str) -> None:
    assert check(tmp_path, "out[0] = 1;", *options) == 2
    assert message in capsys.readouterr().err
