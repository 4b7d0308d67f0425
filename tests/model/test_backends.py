"""The whole model on every backend: the same greedy tokens as upstream, at 32 bits and quantized."""

from __future__ import annotations

import mlx.core as mx
import pytest

from model import InstructMusicGen

from .golden import TEXTS, assert_equal, tensors


@pytest.fixture(scope="module")
def want() -> dict[str, mx.array]:
    return tensors("greedy")


def test_greedy_at_32_bits(ops, golden_bundle, want):
    m = InstructMusicGen(_open(golden_bundle), ops)
    got = m.edit_codes(want["short_condition_codes"][:, :, :-1], TEXTS, greedy=True)
    assert_equal(got, want["short_codes"], ops.name)
    # A prompted second window: the multi-query forms.
    codes = tensors("long")["overlap.condition_codes"][:, :, :30]
    windowed = m.edit_codes(codes, TEXTS[0], greedy=True, window_frames=18, stride_frames=8)
    reference = InstructMusicGen.from_pretrained(golden_bundle, backend="reference")
    assert_equal(windowed, reference.edit_codes(codes, TEXTS[0], greedy=True, window_frames=18, stride_frames=8))


def test_chain_at_32_bits(ops, golden_bundle):
    m = InstructMusicGen(_open(golden_bundle), ops)
    chain = tensors("chain")
    assert_equal(m.encode(chain["short.audio"][:, 0]), chain["short.condition_codes"][:, :, :-1], ops.name)


@pytest.mark.parametrize("bits", [4, 8])
def test_greedy_quantized(ops, golden_bundles, want, bits):
    bundle = golden_bundles(bits)
    codes = want["short_condition_codes"][:, :, :-1]
    reference = InstructMusicGen.from_pretrained(bundle, backend="reference")
    got = InstructMusicGen(_open(bundle), ops).edit_codes(codes, TEXTS, greedy=True)
    assert_equal(got, reference.edit_codes(codes, TEXTS, greedy=True), ops.name)


def _open(path):
    from model.bundle import open_bundle

    return open_bundle(path)
