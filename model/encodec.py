"""EnCodec at 32 kHz: audio to residual codebook tokens and back.

EnCodec (arXiv 2210.13438) as audiocraft's SEANet builds it for MusicGen: not causal, weight norm already merged,
channels last. Padding and the transposed convolutions' trim follow audiocraft to the sample.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import mlx.core as mx

from reference.contract import Ops

from .config import CodecConfig
from .convolution import Conv, ConvTranspose, Lstm, Residual
from .rows import row_by_row

CHUNK = 500
"""Frames (10 s) that the convolutions take at a time, so that memory does not grow with the clip."""

HALO = 4
"""Frames of context on each side of a chunk; the convolutions between audio and LSTM reach less than two."""

Network = Sequence[Callable[[mx.array], mx.array]]


class EnCodec:
    """Encoder, residual vector quantizer and decoder; float32 throughout (nearest-codeword choices need it)."""

    def __init__(self, config: CodecConfig, tensors: Mapping[str, mx.array], ops: Ops) -> None:
        if config.n_residual_layers != 1:
            raise ValueError(f"n_residual_layers={config.n_residual_layers} is not supported; the 32 kHz codec has 1")
        self.config, self.ops = config, ops
        self.hop = 1
        for ratio in config.ratios:
            self.hop *= ratio
        layers = _Layers(config, tensors, ops)
        self.encoder, self.encoder_lstm, self.to_latent = layers.encoder()
        self.from_latent, self.decoder_lstm, self.decoder = layers.decoder()
        self.codebooks = [
            tensors[f"quantizer.vq.layers.{k}._codebook.embed"].astype(mx.float32) for k in range(config.codebooks)
        ]
        self.squared = [(book * book).sum(axis=1) for book in self.codebooks]
        mx.eval(list(tensors.values()), self.encoder_lstm.layers, self.decoder_lstm.layers)
        mx.eval(self.codebooks, self.squared)

    def encode(self, audio: mx.array) -> mx.array:
        """Encode audio float32 [B,n] at 32 kHz: codes int32 [B,K,T], T = ceil(n/640)."""
        return self.quantize(self.latent(audio))

    def decode(self, codes: mx.array) -> mx.array:
        """Decode codes int32 [B,K,T]: audio float32 [B,640·T]."""
        return self.synthesize(self.dequantize(codes))

    def latent(self, audio: mx.array) -> mx.array:
        """Compute the encoder's output [B,T,dimension] of audio [B,n]."""
        x = row_by_row(functools.partial(in_chunks, self.encoder, taken=self.hop, given=1), audio[..., None])
        return row_by_row(self.to_latent, self.encoder_lstm(x))

    def quantize(self, latent: mx.array) -> mx.array:
        """Choose codes int32 [B,K,T] of latents [B,T,dimension]: the nearest codeword of what the books before left."""
        return row_by_row(self._quantize_row, latent)

    def _quantize_row(self, latent: mx.array) -> mx.array:
        residual, codes = latent, []
        for book, squared in zip(self.codebooks, self.squared):
            distance = squared - 2 * self.ops.linear(residual, book)
            codes.append(mx.argmin(distance, axis=-1))
            residual = residual - book[codes[-1]]
        return mx.stack(codes, axis=1).astype(mx.int32)

    def dequantize(self, codes: mx.array) -> mx.array:
        """Sum the codewords of codes [B,K,T]: [B,T,dimension]."""
        total = self.codebooks[0][codes[:, 0]]
        for k in range(1, codes.shape[1]):
            total = total + self.codebooks[k][codes[:, k]]
        return total

    def synthesize(self, latent: mx.array) -> mx.array:
        """Compute audio [B,640·T] of latents [B,T,dimension]."""
        x = self.decoder_lstm(row_by_row(self.from_latent, latent))
        return row_by_row(functools.partial(in_chunks, self.decoder, taken=1, given=self.hop), x)[..., 0]


class _Layers:
    """The layers under audiocraft's names: a sequence whose numbers count the ELUs between the layers too."""

    def __init__(self, config: CodecConfig, tensors: Mapping[str, mx.array], ops: Ops) -> None:
        self.config, self.tensors, self.ops = config, tensors, ops

    def encoder(self) -> tuple[Network, Lstm, Conv]:
        """Return the convolutions from audio [B,n,1] to frames [B,T,C], the LSTM, and the map to the latent."""
        found: list[Callable[[mx.array], mx.array]] = [self.conv("encoder.model.0", elu=False)]
        for i, ratio in enumerate(reversed(self.config.ratios)):
            found.append(self.residual(f"encoder.model.{3 * i + 1}"))
            found.append(self.conv(f"encoder.model.{3 * i + 3}", stride=ratio))
        index = 1 + 3 * len(self.config.ratios)
        last = self.conv(f"encoder.model.{index + bool(self.config.lstm) + 1}")
        return found, self.lstm(f"encoder.model.{index}"), last

    def decoder(self) -> tuple[Conv, Lstm, Network]:
        """Return the map from the latent, the LSTM, and the convolutions from frames [B,T,C] to audio [B,640·T,1]."""
        found: list[Callable[[mx.array], mx.array]] = []
        index = 1 + bool(self.config.lstm)
        for ratio in self.config.ratios:
            found += [self.transposed(f"decoder.model.{index + 1}", ratio), self.residual(f"decoder.model.{index + 2}")]
            index += 3
        found.append(self.conv(f"decoder.model.{index + 1}"))
        return self.conv("decoder.model.0", elu=False), self.lstm("decoder.model.1"), found

    def conv(self, name: str, *, stride: int = 1, elu: bool = True) -> Conv:
        weight, bias = (self.tensors[f"{name}.conv.conv.{part}"] for part in ("weight", "bias"))
        return Conv(self.ops, weight, bias, stride, elu, self.config.pad_mode)

    def transposed(self, name: str, stride: int) -> ConvTranspose:
        weight, bias = (self.tensors[f"{name}.convtr.convtr.{part}"] for part in ("weight", "bias"))
        return ConvTranspose(self.ops, weight, bias, stride)

    def residual(self, name: str) -> Residual:
        return Residual(self.conv(f"{name}.block.1"), self.conv(f"{name}.block.3"))

    def lstm(self, name: str) -> Lstm:
        layers = []
        for n in range(self.config.lstm):
            w_ih, w_hh, bias, more = (
                self.tensors[f"{name}.lstm.{part}_l{n}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            layers.append((w_ih, w_hh, bias + more))
        return Lstm(self.ops, layers)


def in_chunks(network: Network, x: mx.array, *, taken: int, given: int) -> mx.array:
    """Run x [B,n,C] through layers, `CHUNK` frames at a time; a frame is `taken` items of x and `given` of the result.

    Each chunk sees `HALO` frames of its neighbors, which are cut off again: only the clip's own ends meet padding.
    """
    total = -(-x.shape[1] // taken)
    if total <= CHUNK:
        return _through(network, x)
    out = []
    for start in range(0, total, CHUNK):
        left, stop = max(start - HALO, 0), min(start + CHUNK, total)
        y = _through(network, x[:, left * taken : (stop + HALO) * taken])
        out.append(y[:, (start - left) * given : (stop - left) * given])
        mx.eval(out[-1])
    return mx.concatenate(out, axis=1)


def _through(network: Network, x: mx.array) -> mx.array:
    for layer in network:
        x = layer(x)
    return x
