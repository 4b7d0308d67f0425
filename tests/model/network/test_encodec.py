"""The codec's padding and its work in chunks."""

from __future__ import annotations

import itertools
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
from model import InstructMusicGen
from model.network import codec_stream, convolution, encodec
from model.network.convolution import Conv, ConvTranspose, Lstm, Residual

from ... import backends
from ..golden import assert_close, assert_equal, tensors


@given(
    n=st.integers(1, 30),
    kernel=st.integers(1, 16),
    stride=st.integers(1, 8),
    mode=st.sampled_from(["reflect", "constant"]),
)
def test_padding_against_numpy(n: Any, kernel: Any, stride: Any, mode: Any) -> None:
    kernel = max(kernel, stride)
    x = np.random.default_rng(n).normal(size=(2, n, 3)).astype(np.float32)
    total = kernel - stride
    right = total // 2
    left, right = total - right, right + -n % stride
    extra = max(0, max(left, right) - n + 1) if mode == "reflect" else 0
    want = np.pad(np.pad(x, [(0, 0), (0, extra), (0, 0)]), [(0, 0), (left, right), (0, 0)], mode=mode)
    want = want[:, : want.shape[1] - extra]
    got = np.asarray(convolution.pad(mx.array(x), kernel, stride, mode))
    np.testing.assert_array_equal(got, want)
    assert (got.shape[1] - kernel) // stride + 1 == -(-n // stride)


@pytest.mark.parametrize("chunk", [9, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 20))])
def test_chunks_change_nothing(golden_bundle: Any, monkeypatch: pytest.MonkeyPatch, chunk: Any) -> None:
    m = InstructMusicGen.from_pretrained(golden_bundle, backend="reference")
    audio = tensors("encodec")["clip.audio"][:, 0]
    codes = m.encode(audio)
    latent, sound = m.codec.latent(audio), m.decode(codes)
    monkeypatch.setattr(encodec, "CHUNK_FRAMES", chunk)
    assert_close(m.codec.latent(audio), latent, "latent")
    assert_equal(m.encode(audio), codes)
    assert_close(m.decode(codes), sound, "sound")


def test_batch_rows_are_coded_alone(golden_bundle: Any) -> None:
    m = InstructMusicGen.from_pretrained(golden_bundle, backend="reference")
    audio = tensors("encodec")["clip.audio"][:, 0]
    both = m.encode(mx.concatenate([audio, audio[:, ::-1]]))
    assert_equal(both[:1], m.encode(audio))
    assert_equal(both[1:], m.encode(audio[:, ::-1]))
    assert_close(m.decode(both)[1:], m.decode(both[1:]))


def parts(x: mx.array, cuts: list[int]) -> list[mx.array]:
    edges = [0, *sorted({min(cut, x.shape[1]) for cut in cuts}), x.shape[1]]
    return [x[:, a:b] for a, b in itertools.pairwise(edges) if b > a]


@given(
    n=st.integers(1, 40), kernel=st.integers(1, 9), stride=st.integers(1, 5),
    cuts=st.lists(st.integers(1, 39), max_size=5), mode=st.sampled_from(["reflect", "constant"]),
)  # fmt: skip
def test_a_convolution_in_parts_is_the_convolution_at_once(
    n: Any, kernel: Any, stride: Any, cuts: Any, mode: Any
) -> None:
    """The state of the beginning is the padding; what is left at the end reaches no further window."""
    kernel, rng = max(kernel, stride), np.random.default_rng(n)
    x, w, bias = (mx.array(rng.normal(size=size).astype(np.float32)) for size in ((2, n, 3), (4, kernel, 3), (4,)))
    layer = Conv(reference, w, bias, stride, pad_mode=mode)
    state, out = None, []
    for part in parts(convolution.pad(x, kernel, stride, mode), cuts):
        y, state = layer.step(part, state)
        out.append(y)
    assert_close(mx.concatenate(out, axis=1), layer(x))
    assert state.shape[1] < kernel


@given(
    n=st.integers(1, 20), kernel=st.integers(1, 9), stride=st.integers(1, 5),
    cuts=st.lists(st.integers(1, 19), max_size=5),
)  # fmt: skip
def test_a_transposed_convolution_in_parts_is_the_one_at_once(n: Any, kernel: Any, stride: Any, cuts: Any) -> None:
    kernel, rng = max(kernel, stride), np.random.default_rng(n)
    x, w, bias = (mx.array(rng.normal(size=size).astype(np.float32)) for size in ((2, n, 3), (4, kernel, 3), (4,)))
    layer = ConvTranspose(reference, w, bias, stride)
    state: Any = None
    out = []
    for part in parts(x, cuts):
        y, state = layer.step(part, state)
        assert y.shape[1] == part.shape[1] * stride
        out.append(y)
    full = mx.concatenate([*out, layer.rest(state)], axis=1)
    assert_close(full, reference.conv_transpose1d(x, w, bias, stride=stride, elu=True))


@given(frames=st.integers(2, 20), layers=st.integers(0, 3), cuts=st.lists(st.integers(1, 19), max_size=3))
def test_stacked_lstms_go_on_from_their_states(frames: Any, layers: Any, cuts: Any) -> None:
    rng = np.random.default_rng(frames)
    weights = [tuple(mx.array(rng.normal(0, 0.3, size).astype(np.float32)) for size in ((16, 4), (16, 4), (16,)))
               for _ in range(layers)]  # fmt: skip
    layer, x = Lstm(reference, weights), mx.array(rng.normal(size=(2, frames, 4)).astype(np.float32))
    state: list[Any] = []
    out = []
    for part in parts(x, cuts):
        y, state = layer.step(part, state)
        out.append(y)
    assert_close(mx.concatenate(out, axis=1), layer(x))
    assert len(state) == layers


@pytest.mark.skipif("native" not in backends.names(), reason="the native backend is not built")
@given(seed=st.integers(0, 1000), n=st.integers(8, 60), cuts=st.lists(st.integers(8, 52), max_size=2),
       channels=st.integers(1, 40), mode=st.sampled_from(["reflect", "constant"]))  # fmt: skip
def test_native_gives_a_signal_in_parts_the_bits_of_the_signal_at_once(
    seed: Any, n: Any, cuts: Any, channels: Any, mode: Any
) -> None:
    ops, rng = backends.load("native"), np.random.default_rng(seed)

    def draw(*size: int) -> mx.array:
        return mx.array(rng.normal(0, 0.4, size).astype(np.float32))

    def conv(n: int, k: int, c: int) -> Conv:
        return Conv(ops, ops.lay_out(draw(n, k, c), "conv1d"), draw(n), pad_mode=mode)

    up = ops.lay_out(draw(5, 7, channels), "conv_transpose1d", stride=3)
    cell = [(*(ops.lay_out(draw(4 * channels, channels), "lstm") for _ in range(2)), draw(4 * channels))] * 2
    layers = (
        conv(channels, 7, channels), conv(1, 7, channels), ConvTranspose(ops, up, draw(5), 3), Lstm(ops, cell),
        Residual(conv(6, 3, channels), conv(channels, 1, 6)),
    )  # fmt: skip
    x, edges = draw(2, n, channels), [0, *sorted(cut for cut in cuts if cut <= n - 8), n]
    pieces = [x[:, a:b] for a, b in itertools.pairwise(edges) if b - a >= 8]
    x = mx.concatenate(pieces, axis=1)
    for layer in layers:
        stream = codec_stream.of(layer)
        got = mx.concatenate([stream(piece, piece is pieces[-1]) for piece in pieces], axis=1)
        assert_equal(got, layer(x))
