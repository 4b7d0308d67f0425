"""Weights in the order of the native products: exact both ways, right at any shape, the same bits however computed."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from kernels.native.interleaved import Interleaved
from reference import contract

from .conftest import Packed, relative_error

pytestmark = pytest.mark.backend("native")


def interleaved(native: ModuleType, packed: Packed, dtype: mx.Dtype = mx.float32) -> Interleaved:
    scales, biases = packed.scales.astype(dtype), packed.biases.astype(dtype)
    made = native.pack(contract.Packed(packed.w, scales, biases, packed.group, packed.bits))
    assert isinstance(made, Interleaved) and native.pack(made) is made
    return made


def product(native: ModuleType, x: mx.array, w: Interleaved, **epilogue: Any) -> mx.array:
    names = ("bias", "gelu", "residual", "norm_weight", "norm_bias")
    options = dict.fromkeys(names) | {"gelu": False, "eps": 0.0} | epilogue
    activations = native.ACTIVATIONS.index(native.info()["activations"])
    out: mx.array = native._ext().int4_matmul(x, [w.data], w.layout, activations=activations, **options)
    return out


def draw(rng: np.random.Generator, *shape: int) -> mx.array:
    return mx.array(rng.normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_interleaved_weights_come_back_bit_by_bit(
    native: ModuleType, rng: np.random.Generator, bits: int, group: int, dtype: mx.Dtype
) -> None:
    for n, k in ((1, group), (31, 2 * group), (33, 3 * group), (96, 5 * group)):
        packed = Packed(rng, n, k, group, bits)
        scales, biases = packed.scales.astype(dtype), packed.biases.astype(dtype)
        ours = native.pack(contract.Packed(packed.w, scales, biases, group, bits))
        assert ours.shape == (n, k)
        for mine, original in zip(ours.plain().arrays(), (packed.w, scales, biases)):
            assert mine.dtype == original.dtype and mine.shape == original.shape
            assert bool(mx.array_equal(mine, original))


def test_views_with_gaps_are_interleaved_rightly(native: ModuleType, rng: np.random.Generator) -> None:
    packed = Packed(rng, 40, 128)
    inner = [mx.stack([a, a], axis=-1)[..., 0] for a in packed.args]
    a = native.pack(contract.Packed(*inner, 64, 4))
    assert bool(mx.array_equal(a.data, interleaved(native, packed).data))


def test_a_large_matrix_takes_its_bytes_and_no_more(native: ModuleType, rng: np.random.Generator) -> None:
    packed = Packed(rng, 2048, 1024)  # large enough for pages of its own
    ours = interleaved(native, packed, mx.float16)
    assert ours.data.nbytes == packed.w.nbytes + packed.scales.nbytes // 2 + packed.biases.nbytes // 2
    copy = mx.array(ours.data) + 0  # MLX's own operations read and free it like any other array
    assert bool(mx.array_equal(copy, ours.data))
    del ours


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 50, 251])
def test_every_setting_is_as_exact_as_it_says(
    native: ModuleType, rng: np.random.Generator, rows: int, group: int, bits: int
) -> None:
    """A step is max|x| / range of a group, its rounding error step / sqrt(12)."""
    pays = native._ext().int16_pays()
    for n, k in ((50, 256), (97, 1152), (300, 2048)):
        packed = Packed(rng, n, k, group, bits)
        ours, x = interleaved(native, packed), draw(rng, rows, k)
        want = np.array(x).astype(np.float64) @ packed.dense.T
        native.set_activations("int16")
        error = relative_error(product(native, x, ours), want)
        if k >= 1024 and pays:
            assert 4e-6 < error < 3.6e-5
        else:
            assert error < 2e-6
        native.set_activations("float32")
        assert relative_error(product(native, x, ours), want) < 2e-6
        native.set_activations("int8")
        error = relative_error(product(native, x, ours), want)
        if bits == 4:
            assert 1e-3 < error < 9e-3
        else:
            assert error < 3.6e-5  # weights of 8 bits keep what int16 gives


@pytest.mark.parametrize("rows", [1, 3, 6, 13, 40])
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_norm_bias_gelu_and_residual_are_as_with_plain_weights(
    native: ModuleType, rng: np.random.Generator, rows: int, dtype: mx.Dtype
) -> None:
    packed = Packed(rng, 75, 1088)
    ours = interleaved(native, packed)
    x, residual = draw(rng, rows, 1088).astype(dtype), draw(rng, rows, 75).astype(dtype)
    bias, weight, shift = draw(rng, 75), draw(rng, 1088), draw(rng, 1088)
    native.set_activations("float32")
    plain = native.int4_matmul(
        x, *packed.args, bias=bias, activation="gelu", residual=residual, norm=(weight, shift, 1e-5)
    )
    actual = product(
        native, x, ours, bias=bias, gelu=True, residual=residual, norm_weight=weight, norm_bias=shift, eps=1e-5
    )
    assert actual.dtype == dtype
    assert relative_error(actual, np.array(plain.astype(mx.float32))) < (4e-6 if dtype == mx.float32 else 2e-3)


@pytest.mark.parametrize("setting", ["int16", "float32", "int8"])
def test_results_depend_neither_on_threads_nor_on_the_other_rows(
    native: ModuleType, rng: np.random.Generator, setting: str
) -> None:
    """Bit by bit, up to the rows that BLAS takes in float32: every output is one lane's sum."""
    native.set_activations(setting)
    most = 16 if setting == "float32" else 60
    for n, k, bits in ((301, 1088, 4), (70, 8192, 4), (301, 1088, 8), (1000, 1024, 4)):
        packed = Packed(rng, n, k, bits=bits)
        ours, x = interleaved(native, packed), draw(rng, most, k)
        native.set_threads(1)
        alone = np.concatenate([np.array(product(native, x[i : i + 1], ours)) for i in range(most)])
        for threads in (1, 2, 5):
            native.set_threads(threads)
            for rows in (2, 3, 5, 8, 9, 12, most):
                assert (np.array(product(native, x[:rows], ours)) == alone[:rows]).all(), (n, k, bits, threads, rows)


def test_instruction_sets_with_fused_products_give_the_same_bits(native: ModuleType, rng: np.random.Generator) -> None:
    packed = {bits: Packed(rng, 130, 1152, 128, bits) for bits in (4, 8)}
    x = draw(rng, 11, 1152)
    isas = [isa for isa in native.info()["isas"] if isa != "portable"]
    for p in packed.values():
        ours = interleaved(native, p, mx.float16)
        results = []
        for isa in isas:
            native.set_isa(isa)
            results.append(np.array(product(native, x, ours)))
        for isa, other in zip(isas, results):
            assert (other == results[0]).all(), isa


@pytest.mark.parametrize("size", [1e-42, 1e-38, 1e-36, 1e-34, 1e-30, 1e-20, 1e20, 1e30])
def test_activations_of_any_size(native: ModuleType, rng: np.random.Generator, size: float) -> None:
    """The range of a group is inverted: tiny ones must not make that infinite, nor the result 0 * infinity."""
    packed = Packed(rng, 50, 1024)
    ours = interleaved(native, packed)
    values = (size * rng.normal(size=(10, 1024))).astype(np.float32)
    values[1, 64:] = 0.0  # whole groups of nothing
    want = values.astype(np.float64) @ packed.dense.T
    bounds = {"float32": 2e-6, "int16": 3.6e-5, "int8": 9e-3}
    for setting, bound in bounds.items():
        native.set_activations(setting)
        for rows in (2, 10):
            error = np.abs(np.array(product(native, mx.array(values[:rows]), ours)) - want[:rows])
            # Half the step of what stands for x: for float32 down to 2^-12 of it, in subnormals; codes of a group.
            step = {"float32": 2.0**-138, "int16": 1e-34 / 65278, "int8": 1e-34 / 254}[setting]
            floor = 5 * 1024**0.5 * 15 * float(mx.abs(packed.scales).max()) * step
            assert (error <= bound * np.linalg.norm(want[:rows]) / rows**0.5 + floor).all(), setting


def test_not_a_number_comes_out_as_such(native: ModuleType, rng: np.random.Generator) -> None:
    packed = Packed(rng, 40, 1024)
    ours = interleaved(native, packed)
    for setting in ("float32", "int16", "int8"):
        native.set_activations(setting)
        for rows in (2, 11):
            for bad in (float("nan"), float("inf"), -float("inf")):
                values = rng.normal(size=(rows, 1024)).astype(np.float32)
                values[0, 100] = bad
                y = np.array(product(native, mx.array(values), ours))
                assert not np.isfinite(y[0]).any() and np.isfinite(y[1:]).all(), setting


@pytest.mark.parametrize("bits", [4, 8])
def test_nothing_saturates(native: ModuleType, bits: int) -> None:
    """All codes at their largest by all activations at the end of the range: the largest sums there are."""
    for isa in native.info()["isas"]:
        native.set_isa(isa)
        for group in (32, 64, 128):
            k, largest = 4096, 2**bits - 1
            codes = mx.full((35, k * bits // 32), 0xFFFFFFFF, dtype=mx.uint32)
            scales, zero = mx.ones((35, k // group)), mx.zeros((35, k // group))
            ours = native.pack(contract.Packed(codes, scales, zero, group, bits))
            for setting, sign in (("int8", 1.0), ("int8", -1.0), ("int16", 1.0), ("int16", -1.0)):
                native.set_activations(setting)
                y = product(native, mx.full((3, k), sign), ours)
                assert relative_error(y, np.full((3, 35), sign * largest * k)) < 1e-6, (isa, group, setting)


def test_the_bias_term_uses_the_rounded_activations(native: ModuleType, rng: np.random.Generator) -> None:
    codes = mx.full((40, 256), 0x88888888, dtype=mx.uint32)  # every code 8
    scales = mx.full((40, 32), 1.0)
    ours = native.pack(contract.Packed(codes, scales, -8 * scales, 64, 4))
    x = mx.array((5 + rng.normal(size=(2, 2048))).astype(np.float32))
    for setting in ("int8", "int16"):
        native.set_activations(setting)
        zero = np.array(product(native, x, ours))
        assert np.abs(zero).max() < 1e-6 * 8 * float(mx.abs(x).sum()), setting


def test_a_view_of_interleaved_weights_with_gaps(native: ModuleType, rng: np.random.Generator) -> None:
    packed = Packed(rng, 40, 128)
    ours, x = interleaved(native, packed), draw(rng, 3, 128)
    spaced = mx.stack([ours.data, ours.data], axis=-1)[:, 1]
    gaps = Interleaved(native._ext(), spaced, ours.shape, ours.group_size, ours.bits, ours.dtype)
    assert bool(mx.array_equal(product(native, x, ours), product(native, x, gaps)))


def test_bytes_that_are_no_such_matrix_are_refused(native: ModuleType, rng: np.random.Generator) -> None:
    ours, x = interleaved(native, Packed(rng, 40, 128)), draw(rng, 3, 128)
    for data, layout in (
        (ours.data[:-1], ours.layout),
        (ours.data.astype(mx.int32), ours.layout),
        (ours.data, (64, 4, 41 + 32, 128, 0)),
        (ours.data, (64, 5, 40, 128, 0)),
        (ours.data, (48, 4, 40, 128, 0)),
        (ours.data, (64, 4, 40, 128, 3)),
        (ours.data, (64, 4, -40, 128, 0)),
    ):
        with pytest.raises(ValueError, match="native"):
            native._ext().int4_matmul(x, [data], layout, None, False, None, None, None, 0.0, 0)
