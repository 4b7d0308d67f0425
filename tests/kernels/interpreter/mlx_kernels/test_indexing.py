"""MLX's kernels that gather, scatter and assign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from .launch import ATOMIC, EPS, F16, F32, Case, normal, run, wide


def gather() -> Case:
    x, at = normal(20, 30), mx.array(np.random.default_rng(1).integers(-20, 20, (7, 30)), dtype=mx.int32)
    given = {
        "src": x,
        "indices": at,
        "shape": [30],
        "src_strides": [1],
        "idx_strides": [1],
        "ndim": 1,
        "axis": 0,
        "axis_size": 20,
        "src_ax_stride": 30,
        "idx_ax_stride": 30,
    }
    right = np.take_along_axis(np.array(x), np.array(at) % 20, 0)
    return Case(
        ("indexing/gather_axis.h",),
        "gather_axis",
        "float, int, int, true, true",
        given,
        F32,
        right,
        (30, 7, 1),
        (30, 7, 1),
    )


def scatter() -> Case:
    """Sums of halves with atomics on the words that hold two of them."""
    rng = np.random.default_rng(2)
    x, at = mx.array(rng.integers(-8, 8, (7, 30)), dtype=F16), rng.integers(0, 20, (7, 30))
    right = np.zeros((20, 30))
    np.add.at(right, (at, np.arange(30)[None]), wide(x))
    given = {
        "upd": x,
        "indices": mx.array(at, dtype=mx.uint32),
        "shape": [30],
        "upd_strides": [1],
        "idx_strides": [1],
        "ndim": 1,
        "axis": 0,
        "out_axis_size": 20,
        "upd_ax_stride": 30,
        "idx_ax_stride": 30,
    }
    return Case(
        (*ATOMIC, "indexing/scatter_axis.h"),
        "scatter_axis",
        "half, uint, int, Sum<half>, true, true",
        given,
        F16,
        right,
        (30, 7, 1),
        (30, 7, 1),
        texts={"out": "(device mlx_atomic<half>*)out_"},
        init=0,
    )


def updated_slice() -> Case:
    u, start = normal(3, 8, dtype=F16), 1.0
    right = np.full((6, 16), start)
    right[::2, 4:12] += wide(u)
    given = {
        "updates": u,
        "update_shape": [3, 8],
        "update_strides": [8, 1],
        "update_ndim": 2,
        "update_size": 24,
        "output_strides": [32, 1],
        "output_offset": 4,
    }
    return Case(
        (*ATOMIC, "binary_ops.h", "indexing/scatter.h"),
        "slice_update_op_impl",
        "half, int, Sum<half>, false, true, false, 4, 2",
        given,
        F16,
        right,
        (2, 3, 1),
        (2, 3, 1),
        2 * EPS[F16] * float(np.abs(right).max()),
        init=start,
    )


def front_rows() -> Case:
    x, at = normal(20, 9), np.random.default_rng(1).integers(-20, 20, 13)
    given = {"src": x, "indices": mx.array(at, dtype=mx.int32), "stride": 9, "size": 20}
    return Case(
        ("indexing/gather_front.h",),
        "gather_front",
        "float, int, int, 2",
        given,
        F32,
        wide(x)[at],
        (5, 13, 1),
        (5, 13, 1),
    )


def masked_assignment() -> Case:
    mask = np.random.default_rng(0).random(60) < 0.4
    x = normal(int(mask.sum()))
    right = np.full(60, -1.0)
    right[mask] = wide(x)
    offsets = mx.array(np.cumsum(mask) - mask, dtype=mx.uint32)
    given = {
        "mask": mx.array(mask),
        "scatter_offsets": offsets,
        "src": x,
        "src_shapes": [x.size],
        "src_strides": [1],
        "src_ndim": 1,
        "src_batch_size": x.size,
        "mask_batch_size": 60,
    }
    return Case(
        ("indexing/masked_scatter.h",),
        "masked_assign_impl",
        "float, true",
        given,
        F32,
        right,
        (60, 1, 1),
        (32, 1, 1),
        init=-1.0,
    )


FAMILIES: tuple[Callable[[], Case], ...] = (gather, scatter, updated_slice, front_rows, masked_assignment)


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_a_family(folder: Path, family: Callable[[], Case]) -> None:
    assert run(family(), FAMILIES.index(family), folder).issues == []
