"""Integer activations: within their error, and free of the classic mistakes; int8 only when asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest

from .conftest import Packed, relative_error

pytestmark = pytest.mark.backend("native")


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 16, 21, 100])
@pytest.mark.parametrize("k", [256, 1024])
def test_each_setting_is_as_exact_as_it_says(native: ModuleType, rng: np.random.Generator, rows: int, k: int) -> None:
    """A step is max|x| / range of a block, its rounding error step / sqrt(12): 2.5 to 3.5 sigma / (3.46 range)."""
    packed = Packed(rng, 50, k)
    x = mx.array(rng.normal(size=(rows, k)).astype(np.float32))
    want = np.array(x).astype(np.float64) @ packed.dense.T
    assert native.info()["activations"] == "int16"
    error = relative_error(native.int4_matmul(x, *packed.args), want)
    pays = native._ext().int16_pays()
    if rows <= 16 and k >= 1024 and pays:
        assert 4e-6 < error < 3.6e-5
    else:
        assert error < 2e-6
    native.set_activations("float32")
    assert relative_error(native.int4_matmul(x, *packed.args), want) < 2e-6
    native.set_activations("int8")
    assert 1e-3 < relative_error(native.int4_matmul(x, *packed.args), want) < 9e-3


def test_one_large_activation_costs_only_its_own_block(native: ModuleType, rng: np.random.Generator) -> None:
    """Transformers have such outliers; a scale for the whole row would lose the rest of it."""
    packed = Packed(rng, 50, 2048)
    values = rng.normal(size=(2, 2048)).astype(np.float32)
    values[:, 77] = 3000.0
    want = values.astype(np.float64) @ packed.dense.T
    got = native.int4_matmul(mx.array(values), *packed.args)
    step = 3000 / (127 * 256 + 127)  # the coarsest of the instruction sets: codes of two signed bytes
    block = 5 * step / 12**0.5 * 128**0.5  # 128 weights of size 1, the widest block; a scale for the row: 4 times that
    assert np.abs(np.array(got) - want).max() < block


@pytest.mark.parametrize("size", [1e-42, 1e-38, 1e-36, 1e-30, 1e-20, 1e20, 1e30])
def test_activations_of_any_size(native: ModuleType, rng: np.random.Generator, size: float) -> None:
    """The range of a block is inverted: tiny ones must not make that infinite, nor the result 0 * infinity."""
    packed = Packed(rng, 50, 1024)
    values = (size * rng.normal(size=(2, 1024))).astype(np.float32)
    values[1, 64:] = 0.0  # whole blocks of nothing
    want = values.astype(np.float64) @ packed.dense.T
    bounds = {"float32": 2e-6, "int16": 3.6e-5, "int8": 9e-3}
    for setting, bound in bounds.items():
        native.set_activations(setting)
        error = np.abs(np.array(native.int4_matmul(mx.array(values), *packed.args)) - want)
        # Half the step of what stands for x: packed for float32, down to 2^-12 of it, in subnormals; codes of a block.
        step = {"float32": 2.0**-138, "int16": 1e-34 / 65534, "int8": 1e-34 / 254}[setting]
        floor = 5 * 1024**0.5 * 15 * float(mx.abs(packed.scales).max()) * step
        assert (error <= bound * np.linalg.norm(want) / 2 + floor).all(), setting


def test_not_a_number_comes_out_as_such(native: ModuleType, rng: np.random.Generator) -> None:
    packed = Packed(rng, 20, 1024)
    for setting in ("float32", "int16", "int8"):
        native.set_activations(setting)
        for bad in (float("nan"), float("inf")):
            values = rng.normal(size=(2, 1024)).astype(np.float32)
            values[0, 100] = bad
            y = np.array(native.int4_matmul(mx.array(values), *packed.args))
            assert not np.isfinite(y[0]).any() and np.isfinite(y[1]).all(), setting


@pytest.mark.parametrize(("setting", "k", "bound"), [("int8", 384, 1.2e-2), ("int16", 1152, 4e-5)])
def test_every_isa_agrees(native: ModuleType, rng: np.random.Generator, setting: str, k: int, bound: float) -> None:
    native.set_activations(setting)
    for group in (32, 64, 128):
        packed = Packed(rng, 33, k, group)
        x = mx.array(rng.normal(size=(3, k)).astype(np.float32))
        want = np.array(x).astype(np.float64) @ packed.dense.T
        for isa in native.info()["isas"]:
            native.set_isa(isa)
            assert relative_error(native.int4_matmul(x, *packed.args, group_size=group), want) < bound, isa


def test_the_bias_term_uses_the_rounded_activations(native: ModuleType, rng: np.random.Generator) -> None:
    """Affine weights are scale * code + bias with bias near -8 * scale: a bias times the exact sum of x, beside codes
    times the rounded x, would leave the rounding error of the sum uncancelled. Equal weights of 0 must give 0."""
    codes = mx.full((8, 256), 0x88888888, dtype=mx.uint32)  # every code 8
    scales = mx.full((8, 32), 1.0)
    x = mx.array((5 + rng.normal(size=(2, 2048))).astype(np.float32))
    for setting in ("int8", "int16"):
        native.set_activations(setting)
        zero = np.array(native.int4_matmul(x, codes, scales, -8 * scales))
        assert np.abs(zero).max() < 1e-6 * 8 * float(mx.abs(x).sum()), setting


def test_nothing_saturates(native: ModuleType) -> None:
    """All codes 15 by all activations at the end of the range: the largest sums there are."""
    for group in (32, 64, 128):
        k = 4096
        codes = mx.full((3, k // 8), 0xFFFFFFFF, dtype=mx.uint32)
        scales, zero = mx.ones((3, k // group)), mx.zeros((3, k // group))
        for setting, sign in (("int8", 1.0), ("int8", -1.0), ("int16", 1.0), ("int16", -1.0)):
            native.set_activations(setting)
            y = native.int4_matmul(mx.full((2, k), sign), codes, scales, zero, group_size=group)
            assert relative_error(y, np.full((2, 3), sign * 15.0 * k)) < 1e-6


def test_eight_bit_weights_keep_float32_activations(native: ModuleType, rng: np.random.Generator) -> None:
    packed = Packed(rng, 20, 128, bits=8)
    x = mx.array(rng.normal(size=(2, 128)).astype(np.float32))
    exact = np.array(native.int4_matmul(x, *packed.args, bits=8))
    native.set_activations("int8")
    assert (np.array(native.int4_matmul(x, *packed.args, bits=8)) == exact).all()


def test_the_setting_belongs_to_the_operation_made_under_it(native: ModuleType, rng: np.random.Generator) -> None:
    packed, x = Packed(rng, 20, 128), mx.array(rng.normal(size=(2, 128)).astype(np.float32))
    native.set_activations("float32")
    exact = native.int4_matmul(x, *packed.args)
    native.set_activations("int8")
    rounded = native.int4_matmul(x, *packed.args)
    native.set_activations("int16")
    want = np.array(x).astype(np.float64) @ packed.dense.T
    assert relative_error(exact, want) < 2e-6 < 1e-3 < relative_error(rounded, want)
    with pytest.raises(ValueError, match="activations='int4' is not known; use one of float32, int16, int8"):
        native.set_activations("int4")


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "good"), [("activations", "int8"), ("caches", "float16")])
def test_a_variable_sets_the_precision(setting: str, good: str) -> None:
    script, variable = f"import kernels; print(kernels.load('native').info()['{setting}'])", setting.upper()
    for value, expected in ((good, good), ("int3", "")):
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {f"INSTRUCT_MUSICGEN_{variable}": value},
            capture_output=True, text=True, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        assert done.stdout.strip() == expected
        assert value == good or f"INSTRUCT_MUSICGEN_{variable}='int3' is not known" in done.stderr


def test_half_caches_change_what_is_kept_and_nothing_else(native: ModuleType) -> None:
    kept = native.info()["caches"]
    try:
        for name, dtype in (("float16", mx.float16), ("float32", mx.float32)):
            native.set_caches(name)
            assert native.info()["caches"] == name
            assert native.cache_dtype(mx.bfloat16) == dtype
            assert native.compute_dtype(mx.bfloat16) == mx.float32
        with pytest.raises(ValueError, match="caches='int8' is not known; use one of float32, float16"):
            native.set_caches("int8")
    finally:
        native.set_caches(kept)
