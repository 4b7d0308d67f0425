"""A launch that only some chips take is said, and is no fault."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from kernels import interpreter
from kernels.interpreter.cli import main
from kernels.interpreter.threads import ManyThreads

pytestmark = pytest.mark.backend("interpreter")

SOURCE = "out[thread_position_in_grid.x] = 1;"


def run(threads: int, header: str = "", **options: Any) -> interpreter.MetalKernel:
    kernel = interpreter.metal_kernel("wide", [], ["out"], SOURCE, header)
    kernel(
        inputs=[], grid=(2 * threads, 1, 1), threadgroup=(threads, 1, 1), output_shapes=[(2 * threads,)],
        output_dtypes=[mx.float32], **options,
    )  # fmt: skip
    return kernel


@pytest.mark.parametrize("check", [False, True])
def test_more_than_384_threads_are_warned_of(check: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(384, check=check).advice == []
    with pytest.warns(ManyThreads, match=r"416 threads .*; M1 and M2 .* refuse more than 384 .* Use 384 or fewer"):
        kernel = run(416, check=check)
    assert [i.kind for i in kernel.advice] == ["many-threads"] and kernel.issues == []


def test_a_bound_changes_what_is_said() -> None:
    bound = "[[max_total_threads_per_threadgroup(512)]]\n"
    with pytest.warns(ManyThreads, match="512 threads .*; M1 and M2 .* keep variables in memory"):
        run(512, bound)
    with pytest.raises(interpreter.KernelFault, match="the kernel's own bound is 512"):
        run(544, bound)
    with pytest.raises(interpreter.KernelFault, match="Metal has at most 1024"):
        run(1056)


def test_threads_are_counted_as_they_are_given_where_the_grid_has_fewer(tmp_path: Path, capsys: Any) -> None:
    """So does MLX."""
    file = tmp_path / "small.metal"
    file.write_text(f"// check: -o out=float32[32] -g 32 -t 2000\n{SOURCE}\n")
    assert main([str(file)]) == 1
    assert "2000 threads in a threadgroup; Metal has at most 1024" in capsys.readouterr().out
    file.write_text(f"// check: -o out=float32[32] -g 32 -t 512\n{SOURCE}\n")
    assert main([str(file)]) == 0
    assert "many-threads: 512 threads" in capsys.readouterr().out
    file.write_text(f"// check: -o out=float32[32] -g 32 -t 384\n{SOURCE}\n")
    assert main([str(file)]) == 0
    assert "many-threads" not in capsys.readouterr().out


def test_the_command_line_says_it_and_is_clean(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "wide.metal"
    file.write_text(f"// check: -o out=float32[1024] -g 1024 -t 512\n{SOURCE}\n")
    assert main([str(file)]) == 0
    out = capsys.readouterr()
    assert out.out.count("warning: wide: many-threads: 512 threads") == 1 and "clean" in out.out and out.err == ""
    assert main([str(file), "--json"]) == 0
    (launch,) = json.loads(capsys.readouterr().out)["launches"]
    assert launch["clean"] and [w["kind"] for w in launch["warnings"]] == ["many-threads"]
    file.write_text(f"// check: -o out=float32[1024] -g 1024 -t 384\n{SOURCE}\n")
    assert main([str(file)]) == 0
    assert "warning" not in capsys.readouterr().out
