"""ggml's form of a matrix holds the same numbers; and, where llama-cpp-python is installed, multiplies by them."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.peers import ggml, products
from kernels.cases import Draw
from reference.contract import Packed


def without_offset(n: int, k: int, group: int) -> Packed:
    matrix = Draw(n + k).packed(n, k, 4, group)
    return replace(matrix, biases=-8 * matrix.scales)


@given(st.integers(1, 20), st.integers(1, 5), st.sampled_from((32, 64, 128)))
def test_blocks_hold_the_numbers_of_the_matrix(n: int, groups: int, group: int) -> None:
    """By ggml's rule: value j of a block is its scale times (low half of byte j, or high half of j - 16) - 8."""
    matrix = without_offset(n, groups * group, group)
    blocks = ggml.q4_0(matrix)
    assert blocks.shape == (n, groups * group // 32 * 18)
    values = np.zeros((n, groups * group))
    for row in range(n):
        for b in range(groups * group // 32):
            block = blocks[row, 18 * b : 18 * b + 18]
            scale = float(block[:2].view(np.float16)[0])
            for j in range(32):
                code = block[2 + j] & 15 if j < 16 else block[2 + j - 16] >> 4
                values[row, 32 * b + j] = scale * (int(code) - 8)
    wanted = mx.dequantize(
        matrix.w, *(a.astype(mx.float32) for a in (matrix.scales, matrix.biases)), group_size=group, bits=4
    )
    np.testing.assert_array_equal(values.astype(np.float32), np.array(wanted))


@pytest.mark.slow
@pytest.mark.skipif(ggml.unavailable() is not None, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize("n", (96, 50))
def test_a_product_of_ggml_is_the_matrix_times_the_rows(n: int) -> None:
    column, about = products.ggml_q4_0(n, 128, [1, 3], 2)
    assert about["versions"]["buffer"] in ("CPU", "CPU_REPACK")
    assert set(about["errors"]) == {"1", "3"} and all(1e-4 < error < 2e-2 for error in about["errors"].values())
    assert {m: len(each) for m, each in column.round().items()} == {"1": 2, "3": 2}


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install llama-cpp-python" in (ggml.unavailable() or "")
