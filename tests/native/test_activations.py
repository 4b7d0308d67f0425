"""int8 activations: only when asked, within their error, and free of the two classic mistakes."""

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


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 21, 100])
def test_default_is_exact_and_int8_is_within_its_step(native: ModuleType, rng: np.random.Generator, rows: int) -> None:
    packed = Packed(rng, 50, 256)
    x = mx.array(rng.normal(size=(rows, 256)).astype(np.float32))
    want = np.array(x).astype(np.float64) @ packed.dense.T
    assert native.info()["activations"] == "float32"
    assert relative_error(native.int4_matmul(x, *packed.args), want) < 2e-6
    native.set_activations("int8")
    # A step is max|x| / 127 of a block, its rounding error step / sqrt(12): 2.5 to 3.5 sigma over 127 * 3.46.
    assert 1e-3 < relative_error(native.int4_matmul(x, *packed.args), want) < 9e-3


def test_every_level_agrees_on_int8(native: ModuleType, rng: np.random.Generator) -> None:
    native.set_activations("int8")
    for group in (32, 64, 128):
        packed = Packed(rng, 33, 3 * group, group)
        x = mx.array(rng.normal(size=(3, 3 * group)).astype(np.float32))
        want = np.array(x).astype(np.float64) @ packed.dense.T
        for level in native.info()["levels"]:
            native.set_level(level)
            assert relative_error(native.int4_matmul(x, *packed.args, group_size=group), want) < 1.2e-2, level


def test_the_bias_term_uses_the_rounded_activations(native: ModuleType, rng: np.random.Generator) -> None:
    """Affine weights are scale * code + bias with bias near -8 * scale: a bias times the exact sum of x, beside codes
    times the rounded x, would leave the rounding error of the sum uncancelled. Equal weights of 0 must give 0."""
    codes = mx.full((8, 32), 0x88888888, dtype=mx.uint32)  # every code 8
    scales = mx.full((8, 4), 1.0)
    x = mx.array((5 + rng.normal(size=(2, 256))).astype(np.float32))
    native.set_activations("int8")
    zero = np.array(native.int4_matmul(x, codes, scales, -8 * scales))
    assert np.abs(zero).max() < 1e-6 * 8 * float(mx.abs(x).sum())


def test_nothing_saturates(native: ModuleType) -> None:
    """All codes 15 by all activations at the end of the range: the largest sums there are."""
    for group in (32, 64, 128):
        k = 4096
        codes = mx.full((3, k // 8), 0xFFFFFFFF, dtype=mx.uint32)
        scales, zero = mx.ones((3, k // group)), mx.zeros((3, k // group))
        native.set_activations("int8")
        for sign in (1.0, -1.0):
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
    exact = native.int4_matmul(x, *packed.args)
    native.set_activations("int8")
    rounded = native.int4_matmul(x, *packed.args)
    native.set_activations("float32")
    want = np.array(x).astype(np.float64) @ packed.dense.T
    assert relative_error(exact, want) < 2e-6 < 1e-3 < relative_error(rounded, want)
    with pytest.raises(ValueError, match="activations='int4' is not known; use one of float32, int8"):
        native.set_activations("int4")


def test_the_variable_sets_the_activations() -> None:
    script = "import kernels; print(kernels.load('native').info()['activations'])"
    for value, expected in (("int8", "int8"), ("int3", "")):
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"INSTRUCT_MUSICGEN_ACTIVATIONS": value},
            capture_output=True, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert done.stdout.strip() == expected
        assert value == "int8" or "INSTRUCT_MUSICGEN_ACTIVATIONS='int3' is not known" in done.stderr
