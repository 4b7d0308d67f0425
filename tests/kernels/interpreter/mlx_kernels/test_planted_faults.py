"""Faults planted in MLX's kernels are found, and one that stands in its source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kernels.beside_mlx.mlx_kernels import header
from kernels.interpreter import KernelFault

from .launch import F32, Case, normal, run, wide
from .test_indexing import gather, scatter
from .test_reductions import reduce_columns, reduce_rows, scan

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);\n\n    "


# Where to plant, what instead of what, and what to find in which statement.
PLANTS: dict[str, tuple[Callable[[], Case], tuple[str, str], set[str], str]] = {
    "missing barrier": (
        reduce_rows,
        (BARRIER + "U values[", "U values["),
        {"race", "uninitialized-read"},
        "shared_vals[lid.x",
    ),
    "barrier of one simdgroup": (
        scan,
        (BARRIER + "// Read strided", "simdgroup_" + BARRIER.removeprefix("threadgroup_") + "// Read strided"),
        {"race", "uninitialized-read"},
        "values[i] = read_from[i]",
    ),
    "unsafe edge": (
        reduce_columns,
        ("bool safe = column + n_reads <= reduction_stride;", "bool safe = true;"),
        {"out-of-bounds"},
        "out[i] = totals[i]",
    ),
    "wrong stride": (
        gather,
        ("idx_val * static_cast<LocT>(src_ax_stride)", "idx_val * (src_ax_stride + 2)"),
        {"out-of-bounds"},
        "out[out_idx] = src[src_idx]",
    ),
    "plain store for an atomic": (
        scatter,
        ("op.atomic_update(out, upd[upd_idx], out_idx);", "((device T*)out)[out_idx] += upd[upd_idx];"),
        {"race"},
        "((device T*)out)[out_idx]",
    ),
}


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_found(folder: Path, name: str) -> None:
    family, plant, kinds, statement = PLANTS[name]
    with pytest.raises(KernelFault) as caught:
        run(family(), list(PLANTS).index(name), folder, plant=plant)
    lines = header(*family().headers, folder=folder).replace(*plant).splitlines()
    found = [i for i in caught.value.issues if statement in lines[i.line - 1]]
    assert found, caught.value
    assert {i.kind for i in found} & kinds
    assert all(f"header line {i.line}:" in str(i) and f"byte {i.offset}," in str(i) for i in found)


@pytest.mark.backend("interpreter")
def test_a_fault_in_the_source_itself_is_found(folder: Path) -> None:
    """gemv: lanes 1..31 skip the barrier between simdgroups, which orders no memory either (`mem_none`)."""
    m, v = normal(64, 128), normal(128, seed=1)
    given = {
        "mat": m,
        "in_vec": v,
        "in_vec_size": 128,
        "out_vec_size": 64,
        "marix_ld": 128,
        "alpha": 1.0,
        "beta": 0.0,
        "batch_ndim": 1,
        "batch_shape": [1],
        "vector_batch_stride": [0],
        "matrix_batch_stride": [0],
        "bias_batch_stride": [0],
        "bias_stride": 1,
    }
    case = Case(
        ("gemv.h",),
        "gemv",
        "float, 1, 8, 1, 32, 4, 4, false, false",
        given,
        F32,
        wide(m) @ wide(v),
        (512, 8, 1),
        (32, 8, 1),
        1,
        out="out_vec",
    )
    with pytest.raises(KernelFault) as caught:
        run(case, 0, folder)
    assert {i.kind for i in caught.value.issues} == {"divergent-barrier", "race"}
    lines = header("gemv.h", folder=folder).splitlines()
    (barrier,) = [i for i in caught.value.issues if i.kind == "divergent-barrier"]
    assert "threadgroup_barrier(mem_flags::mem_none)" in lines[barrier.line - 1]
