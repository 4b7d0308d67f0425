"""Matrices stored in the order in which CPUs read them: exact both ways, and what every backend computes with them."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from kernels import Ops
from reference.contract import Packed
from reference.tiles import Tiles, fits, lay_out, shape

from ...strategies import Random

GROUPS, BITS = (32, 64, 128), (4, 8)


def packed(n: int, k: int, group: int, bits: int) -> Packed:
    w, scales, biases = mx.quantize(Random(5).normal(n, k), group, bits)
    return Packed(w, scales.astype(mx.float16), biases.astype(mx.float16), group, bits)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", GROUPS)
def test_tiles_come_back_bit_by_bit_and_take_no_more_bytes(group: int, bits: int) -> None:
    for n, k in ((32, group), (96, 5 * group)):
        original = packed(n, k, group, bits)
        data = lay_out(original)
        assert data.dtype == mx.uint8 and data.shape == shape(n, k, group, bits)
        assert data.nbytes == sum(a.nbytes for a in original.arrays())
        back = Tiles((data,), group, bits)
        assert back.shape == (n, k) and back.arrays()[0] is data
        for mine, theirs in zip(back.plain().arrays(), original.arrays()):
            assert mine.dtype == theirs.dtype and mine.shape == theirs.shape and bool(mx.array_equal(mine, theirs))


@pytest.mark.backend("native")
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", GROUPS)
def test_it_is_the_order_of_the_native_products(group: int, bits: int) -> None:
    import kernels.native as native

    for n in (32, 96, 4096):  # the last one has pages of its own
        original = packed(n, 4 * group, group, bits)
        data = lay_out(original)
        made, taken = native.pack(original), native.pack(Tiles((data,), group, bits))
        assert bool(mx.array_equal(data.reshape(-1), made.arrays()[0]))
        assert bool(mx.array_equal(taken.arrays()[0], made.arrays()[0]))
        assert (taken.shape, taken.bits, taken.group_size) == (made.shape, made.bits, made.group_size)


def test_every_backend_gives_the_bits_of_the_plain_matrix(ops: Ops) -> None:
    original, x = packed(96, 256, 64, 4), Random(6).normal(3, 256)
    tiles = ops.pack(Tiles((lay_out(original),), 64, 4))
    want = ops.int4_matmul(x, ops.pack(original))
    np.testing.assert_array_equal(np.array(ops.int4_matmul(x, tiles)), np.array(want))


@pytest.mark.parametrize("bits", BITS)
def test_stacked_matrices_are_one(ops: Ops, bits: int) -> None:
    whole, x = packed(160, 128, 64, bits), Random(7).normal(2, 128)
    parts = [Packed(*(a[rows] for a in whole.arrays()), 64, bits) for rows in (slice(0, 32), slice(32, None))]
    tiles = Tiles(tuple(lay_out(part) for part in parts), 64, bits)
    assert tiles.shape == (160, 128)
    for mine, original in zip(tiles.plain().arrays(), whole.arrays()):
        assert bool(mx.array_equal(mine, original))
    want = ops.int4_matmul(x, ops.pack(whole))
    np.testing.assert_array_equal(np.array(ops.int4_matmul(x, ops.pack(tiles))), np.array(want))


def test_outputs_that_fill_no_piece_do_not_fit() -> None:
    assert fits(32) and fits(2048) and not fits(48)
