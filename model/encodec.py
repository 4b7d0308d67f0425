"""EnCodec at 32 kHz: audio to residual codebook tokens and back.

EnCodec (arXiv 2210.13438) as audiocraft's SEANet builds it for MusicGen: not causal, weight norm already merged,
channels last. Padding and the transposed convolutions' trim follow audiocraft to the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mlx.core as mx

from reference.contract import Ops

from .config import CodecConfig
from .rows import row_by_row

CHUNK = 500
"""Frames (10 s) that the convolutions take at a time, so that memory does not grow with the clip."""

HALO = 4
"""Frames of context on each side of a chunk; the convolutions between audio and LSTM reach less than two."""


class EnCodec:
    """Encoder, residual vector quantizer and decoder; float32 throughout (nearest-codeword choices need it)."""

    def __init__(self, config: CodecConfig, tensors: Mapping[str, mx.array], ops: Ops) -> None:
        if config.n_residual_layers != 1:
            raise ValueError(f"n_residual_layers={config.n_residual_layers} is not supported; the 32 kHz codec has 1")
        self.config, self.ops = config, ops
        self._w = dict(tensors)
        self.hop = 1
        for ratio in config.ratios:
            self.hop *= ratio
        for side in ("encoder", "decoder"):
            self._sum_lstm_biases(side)
        self.codebooks = [
            tensors[f"quantizer.vq.layers.{k}._codebook.embed"].astype(mx.float32) for k in range(config.codebooks)
        ]
        self.squared = [(book * book).sum(axis=1) for book in self.codebooks]
        mx.eval(self._w, self.codebooks, self.squared)

    def _sum_lstm_biases(self, side: str) -> None:
        for name in [n for n in self._w if n.startswith(f"{side}.") and ".lstm.bias_ih_l" in n]:
            self._w[name] = self._w[name] + self._w.pop(name.replace("bias_ih", "bias_hh"))

    def encode(self, audio: mx.array) -> mx.array:
        """audio float32 [B,n] at 32 kHz -> codes int32 [B,K,T], T = ceil(n/640)."""
        return self.quantize(self.latent(audio))

    def decode(self, codes: mx.array) -> mx.array:
        """codes int32 [B,K,T] -> audio float32 [B,640·T]."""
        return self.synthesize(self.dequantize(codes))

    def latent(self, audio: mx.array) -> mx.array:
        """audio [B,n] -> the encoder's output [B,T,dimension]."""
        index = 1 + 3 * len(self.config.ratios)
        x = row_by_row(lambda row: in_chunks(self._analyse, row, taken=self.hop, given=1), audio[..., None])
        x = self._lstm(x, f"encoder.model.{index}")
        last = f"encoder.model.{index + bool(self.config.lstm) + 1}"
        return row_by_row(lambda row: self._conv(row, last, stride=1), x)

    def _analyse(self, audio: mx.array) -> mx.array:
        """The encoder below its LSTM: [B,n,1] -> [B,T,C]."""
        x = self._conv(audio, "encoder.model.0", stride=1, elu=False)
        for i, ratio in enumerate(reversed(self.config.ratios)):
            x = self._residual(x, f"encoder.model.{3 * i + 1}")
            x = self._conv(x, f"encoder.model.{3 * i + 3}", stride=ratio)
        return x

    def quantize(self, latent: mx.array) -> mx.array:
        """Latent [B,T,dimension] -> codes int32 [B,K,T]: the nearest codeword of what the books before have left."""
        return row_by_row(self._quantize_row, latent)

    def _quantize_row(self, latent: mx.array) -> mx.array:
        residual, codes = latent, []
        for book, squared in zip(self.codebooks, self.squared):
            distance = squared - 2 * self.ops.linear(residual, book)
            codes.append(mx.argmin(distance, axis=-1))
            residual = residual - book[codes[-1]]
        return mx.stack(codes, axis=1).astype(mx.int32)

    def dequantize(self, codes: mx.array) -> mx.array:
        """Codes [B,K,T] -> the sum of their codewords [B,T,dimension]."""
        total = self.codebooks[0][codes[:, 0]]
        for k in range(1, codes.shape[1]):
            total = total + self.codebooks[k][codes[:, k]]
        return total

    def synthesize(self, latent: mx.array) -> mx.array:
        """Latent [B,T,dimension] -> audio [B,640·T]."""
        first = row_by_row(lambda row: self._conv(row, "decoder.model.0", stride=1, elu=False), latent)
        x = self._lstm(first, "decoder.model.1")
        return row_by_row(lambda row: in_chunks(self._render, row, taken=1, given=self.hop)[..., 0], x)

    def _render(self, x: mx.array) -> mx.array:
        """The decoder above its LSTM: [B,T,C] -> [B,640·T,1]."""
        index = 1 + bool(self.config.lstm)
        for ratio in self.config.ratios:
            x = self._transposed(x, f"decoder.model.{index + 1}", ratio)
            x = self._residual(x, f"decoder.model.{index + 2}")
            index += 3
        return self._conv(x, f"decoder.model.{index + 1}", stride=1)

    def _residual(self, x: mx.array, name: str) -> mx.array:
        """x + conv1(elu(conv3(elu(x))))."""
        h = self._conv(x, f"{name}.block.1", stride=1)
        return self._conv(h, f"{name}.block.3", stride=1, residual=x)

    def _conv(
        self, x: mx.array, name: str, *, stride: int, elu: bool = True, residual: mx.array | None = None
    ) -> mx.array:
        """ELU before every convolution but the first (it commutes with the padding); output ceil(n/stride)."""
        weight, bias = self._w[f"{name}.conv.conv.weight"], self._w[f"{name}.conv.conv.bias"]
        x = pad(x, weight.shape[1], stride, self.config.pad_mode)
        return self.ops.conv1d(x, weight, bias, stride=stride, elu=elu, residual=residual)

    def _transposed(self, x: mx.array, name: str, stride: int) -> mx.array:
        """[B,n,C] -> [B,n·stride,N]: the full output without the padding's share, the odd sample from the left."""
        weight, bias = self._w[f"{name}.convtr.convtr.weight"], self._w[f"{name}.convtr.convtr.bias"]
        y = self.ops.conv_transpose1d(x, weight, bias, stride=stride, elu=True)
        total = weight.shape[1] - stride
        right = total // 2
        return y[:, total - right : y.shape[1] - right]

    def _lstm(self, x: mx.array, name: str) -> mx.array:
        """The stacked LSTM with a skip around all of it."""
        y = x
        for n in range(self.config.lstm):
            w_ih, w_hh, bias = (self._w[f"{name}.lstm.{p}_l{n}"] for p in ("weight_ih", "weight_hh", "bias_ih"))
            y, _ = self.ops.lstm(y, w_ih, w_hh, bias)
        return x + y if self.config.lstm else x


def in_chunks(network: Callable[[mx.array], mx.array], x: mx.array, *, taken: int, given: int) -> mx.array:
    """network(x) for x [B,n,C], `CHUNK` frames at a time; a frame is `taken` items of x and `given` of the result.

    Each chunk sees `HALO` frames of its neighbours, which are cut off again: only the clip's own ends meet padding.
    """
    total = -(-x.shape[1] // taken)
    if total <= CHUNK:
        return network(x)
    out = []
    for start in range(0, total, CHUNK):
        left, stop = max(start - HALO, 0), min(start + CHUNK, total)
        y = network(x[:, left * taken : (stop + HALO) * taken])
        out.append(y[:, (start - left) * given : (stop - left) * given])
        mx.eval(out[-1])
    return mx.concatenate(out, axis=1)


def pad(x: mx.array, kernel: int, stride: int, mode: str) -> mx.array:
    """Pad x [B,n,C] as audiocraft's `StreamableConv1d` does, so that a convolution gives ceil(n/stride) outputs.

    kernel - stride zeros or reflections in all, the odd one on the left, and on the right what fills the last window.
    """
    n, total = x.shape[1], kernel - stride
    right = total // 2
    left = total - right
    right += -n % stride
    if mode == "reflect":
        return _reflect(x, left, right)
    return mx.pad(x, [(0, 0), (left, right), (0, 0)])


def _reflect(x: mx.array, left: int, right: int) -> mx.array:
    """Mirror without repeating the edge; an input no longer than the padding is first extended with zeros."""
    n = x.shape[1]
    extra = max(left, right) - n + 1 if n <= max(left, right) else 0
    if extra:
        x = mx.pad(x, [(0, 0), (0, extra), (0, 0)])
    length = x.shape[1]
    parts = [x[:, 1 : left + 1][:, ::-1], x, x[:, length - 1 - right : length - 1][:, ::-1]]
    padded = mx.concatenate([p for p in parts if p.shape[1]], axis=1)
    return padded[:, : padded.shape[1] - extra]
