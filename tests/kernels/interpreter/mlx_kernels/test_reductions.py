"""MLX's reductions, scans and sorts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from .launch import BF16, EPS, F16, F32, Case, normal, run, wide


def reduce_rows() -> Case:
    x = normal(6, 300, dtype=F16)
    right = wide(x).sum(1)
    return Case(
        ("reduce_utils.h", "reduce.h"),
        "row_reduce_simple",
        "half, float, Sum<float>",
        {"in": x, "reduction_size": 300, "out_size": 6},
        F32,
        right,
        (96, 2, 1),
        (96, 1, 1),
        300 * EPS[F32] * float(np.abs(wide(x)).sum(1).max()),
    )


def reduce_columns() -> Case:
    x = normal(6, 300, dtype=BF16)
    given = {
        "in": x,
        "reduction_size": 6,
        "reduction_stride": 300,
        "shape": [1],
        "strides": [0],
        "ndim": 1,
        "reduce_shape": [6],
        "reduce_strides": [300],
        "reduce_ndim": 1,
        "non_col_reductions": 1,
        "column_offset": 0,
    }
    return Case(
        ("reduce_utils.h", "reduce.h"),
        "col_reduce_looped",
        "bfloat16_t, float, Max<float>, int, 1, 8, 128",
        given,
        F32,
        wide(x).max(0),
        (768, 1, 1),
        (256, 1, 1),
    )


def scan() -> Case:
    x = mx.array(np.random.default_rng(0).integers(-9, 9, (50, 40)), dtype=mx.int64)
    given = {"in": x, "axis_size": 50, "stride": 40, "stride_blocks": 2}
    return Case(
        ("scan.h",),
        "strided_scan",
        "int64_t, int64_t, CumSum<int64_t>, 4, true, false",
        given,
        mx.int64,
        np.cumsum(np.array(x), 0),
        (256, 2, 1),
        (256, 1, 1),
    )


def log_sum_exp() -> Case:
    x = normal(3, 1100)
    right = np.log(np.exp(wide(x)).sum(1))
    return Case(
        ("logsumexp.h",),
        "logsumexp_looped",
        "float",
        {"in": x, "axis_size": 1100},
        F32,
        right,
        (3072, 1, 1),
        (1024, 1, 1),
        1100 * EPS[F32],
    )


def cross_entropy() -> Case:
    x, at = normal(9, 1000), np.arange(9) * 111 - 1
    right = np.log(np.exp(wide(x)).sum(1)) - wide(x)[np.arange(9), at]
    given = {"in": x, "targets": mx.array(at, dtype=mx.int32), "axis_size": 1000}
    return Case(
        ("cross_entropy.h",),
        "cross_entropy",
        "float, float, 4",
        given,
        F32,
        right,
        (9 * 256, 1, 1),
        (256, 1, 1),
        1000 * EPS[F32],
    )


def sort() -> Case:
    x = normal(3, 200)
    given = {
        "inp": x,
        "size_sorted_axis": 200,
        "in_stride_sorted_axis": 1,
        "out_stride_sorted_axis": 1,
        "in_stride_segment_axis": 200,
        "out_stride_segment_axis": 200,
    }
    return Case(
        ("sort.h",),
        "block_sort",
        "float, uint, true, 64, 4",
        given,
        mx.uint32,
        np.argsort(np.array(x), 1),
        (64, 3, 1),
        (64, 1, 1),
    )


def searching() -> Case:
    a, v = mx.sort(normal(100)), normal(3, 40, seed=1)
    return Case(
        ("sort.h", "searchsorted.h"),
        "searchsorted",
        "float, false",
        {"a": a, "v": v, "n": mx.array(100, dtype=mx.uint32), "a_stride": 1},
        mx.uint32,
        np.searchsorted(np.array(a), np.array(v)),
        (40, 3, 1),
        (8, 3, 1),
    )


def sort_strided() -> Case:
    x = mx.array(np.random.default_rng(0).permutation(600).reshape(200, 3), dtype=mx.int16)
    given = {
        "inp": x,
        "size_sorted_axis": 200,
        "in_stride_sorted_axis": 3,
        "out_stride_sorted_axis": 3,
        "nc_dim": 1,
        "nc_shape": [3],
        "in_nc_strides": [1],
        "out_nc_strides": [1],
    }
    return Case(
        ("sort.h",),
        "block_sort_nc",
        "int16_t, int16_t, false, 64, 4",
        given,
        mx.int16,
        np.sort(np.array(x), 0),
        (64, 3, 1),
        (64, 1, 1),
    )


FAMILIES: tuple[Callable[[], Case], ...] = (
    reduce_rows,
    reduce_columns,
    scan,
    log_sum_exp,
    cross_entropy,
    sort,
    searching,
    sort_strided,
)


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_a_family(folder: Path, family: Callable[[], Case]) -> None:
    assert run(family(), FAMILIES.index(family), folder).issues == []
