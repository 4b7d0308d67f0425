"""The whole model on every backend: the same greedy tokens as upstream, at 32 bits and quantized."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest

from kernels import metal
from model import InstructMusicGen
from model.bundle.bundle import open_bundle

from .conftest import Converted
from .golden import Golden, assert_equal

pytestmark = pytest.mark.slow


@pytest.fixture
def want(golden: Golden) -> dict[str, mx.array]:
    return golden.tensors("greedy")


def test_greedy_at_32_bits(ops: Any, golden: Golden, converted: Converted, want: dict[str, mx.array]) -> None:
    m = InstructMusicGen(open_bundle(converted(golden, 32)), ops)
    got = m.edit_codes(want["short_condition_codes"][:, :, :-1], golden.texts, greedy=True)
    assert_equal(got, want["short_codes"], ops.name)
    # A prompted second window: the multi-query forms.
    codes, text = golden.tensors("long")["overlap.condition_codes"][:, :, :30], golden.texts[0]
    windowed = m.edit_codes(codes, text, greedy=True, window_frames=18, stride_frames=8)
    reference = InstructMusicGen.from_pretrained(converted(golden, 32), backend="reference")
    assert_equal(windowed, reference.edit_codes(codes, text, greedy=True, window_frames=18, stride_frames=8))


def test_chain_at_32_bits(ops: Any, golden: Golden, converted: Converted) -> None:
    m = InstructMusicGen(open_bundle(converted(golden, 32)), ops)
    chain = golden.tensors("chain")
    assert_equal(m.encode(chain["short.audio"][:, 0]), chain["short.condition_codes"][:, :, :-1], ops.name)


@pytest.mark.parametrize("bits", [4, 8])
def test_greedy_quantized(ops: Any, golden: Golden, converted: Converted, want: dict[str, mx.array], bits: Any) -> None:
    bundle, codes = converted(golden, bits), want["short_condition_codes"][:, :, :-1]
    reference = InstructMusicGen.from_pretrained(bundle, backend="reference")
    got = InstructMusicGen(open_bundle(bundle), ops).edit_codes(codes, golden.texts, greedy=True)
    assert_equal(got, reference.edit_codes(codes, golden.texts, greedy=True), ops.name)


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("bits", [4, 8, 32])
def test_greedy_in_metals_arithmetic(
    golden: Golden, converted: Converted, want: dict[str, mx.array], bits: int
) -> None:
    """Fast functions off, denormals flushed: the same tokens."""
    bundle, codes = converted(golden, bits), want["short_condition_codes"][:, :, :-1]
    m = InstructMusicGen(open_bundle(bundle), metal.on_interpreter(fp="metal"))
    if bits == 32:
        right = want["short_codes"]
    else:
        reference = InstructMusicGen.from_pretrained(bundle, backend="reference")
        right = reference.edit_codes(codes, golden.texts, greedy=True)
    assert_equal(m.edit_codes(codes, golden.texts, greedy=True), right, f"{bits} bits")
