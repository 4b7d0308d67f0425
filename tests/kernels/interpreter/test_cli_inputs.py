"""Inputs that `metal-check` makes from `--input NAME=DTYPE[SHAPE]*VALUE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels.interpreter.cli import main
from kernels.interpreter.cli.kernel_file import UsageError
from kernels.interpreter.cli.options import make_input

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.parametrize("dtype", (*INTEGERS, "float16", "bfloat16", "float32", "bool_"))
@pytest.mark.parametrize("shape", ((), (1,), (3, 2)))
def test_a_value_has_the_dtype_that_was_asked_for(dtype: str, shape: tuple[int, ...]) -> None:
    sizes = ",".join(str(n) for n in shape)
    name, made = make_input(f"n={dtype}[{sizes}]*1", Path(), np.random.default_rng(0))
    assert (name, made.dtype, made.shape) == ("n", getattr(mx, dtype), shape)
    assert bool((made == 1).all())


@pytest.mark.parametrize("text", ("n=uint8[]*300", "n=uint32[]*-1", "n=int32[]*1.5", "n=bool_[2]*2"))
def test_a_value_that_the_dtype_lacks_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="holds whole numbers from"):
        make_input(text, Path(), np.random.default_rng(0))


@pytest.mark.backend("interpreter")
def test_a_scalar_of_a_whole_function_is_an_integer(tmp_path: Path, capsys: Any) -> None:
    """As a float it would neither divide with a remainder nor compile as an index."""
    file = tmp_path / "rows.metal"
    file.write_text(
        "// check: -i a=float32[12] -i rows=uint32[]*4 -o out=float32[12] -g 12 -t 12\n"
        "kernel void rows_of(device const float* a, constant uint& rows, device float* out,\n"
        "                    uint i [[thread_position_in_grid]]) {\n"
        "  out[i % rows * 3 + i / rows] = a[i];\n"
        "}\n"
    )
    assert main(["check", str(file)]) == 0, capsys.readouterr()
