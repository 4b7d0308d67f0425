"""The codec's padding and its work in chunks."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import InstructMusicGen, encodec

from .golden import assert_close, assert_equal, tensors


@given(
    n=st.integers(1, 30),
    kernel=st.integers(1, 16),
    stride=st.integers(1, 8),
    mode=st.sampled_from(["reflect", "constant"]),
)
def test_padding_against_numpy(n, kernel, stride, mode):
    kernel = max(kernel, stride)
    x = np.random.default_rng(n).normal(size=(2, n, 3)).astype(np.float32)
    total = kernel - stride
    right = total // 2
    left, right = total - right, right + -n % stride
    extra = max(0, max(left, right) - n + 1) if mode == "reflect" else 0
    want = np.pad(np.pad(x, [(0, 0), (0, extra), (0, 0)]), [(0, 0), (left, right), (0, 0)], mode=mode)
    want = want[:, : want.shape[1] - extra]
    got = np.asarray(encodec.pad(mx.array(x), kernel, stride, mode))
    np.testing.assert_array_equal(got, want)
    assert (got.shape[1] - kernel) // stride + 1 == -(-n // stride)


@pytest.mark.parametrize("chunk", [5, 9, 20])
def test_chunks_change_nothing(golden_bundle, monkeypatch, chunk):
    m = InstructMusicGen.from_pretrained(golden_bundle, backend="reference")
    audio = tensors("encodec")["clip.audio"][:, 0]
    codes = m.encode(audio)
    latent, sound = m.codec.latent(audio), m.decode(codes)
    monkeypatch.setattr(encodec, "CHUNK", chunk)
    assert_close(m.codec.latent(audio), latent, "latent")
    assert_equal(m.encode(audio), codes)
    assert_close(m.decode(codes), sound, "sound")


def test_batch_rows_are_coded_alone(golden_bundle):
    m = InstructMusicGen.from_pretrained(golden_bundle, backend="reference")
    audio = tensors("encodec")["clip.audio"][:, 0]
    both = m.encode(mx.concatenate([audio, audio[:, ::-1]]))
    assert_equal(both[:1], m.encode(audio))
    assert_equal(both[1:], m.encode(audio[:, ::-1]))
    assert_close(m.decode(both)[1:], m.decode(both[1:]))
