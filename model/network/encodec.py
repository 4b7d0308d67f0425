"""EnCodec at 32 kHz: audio to residual codebook tokens and back.

EnCodec (arXiv 2210.13438) as audiocraft's SEANet builds it for MusicGen: not causal, weight norm already merged,
channels last. Padding and the transposed convolutions' trim follow audiocraft to the sample.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence

import mlx.core as mx

from reference.contract import Ops

from ..config import CodecConfig
from . import codec_stream
from .convolution import Conv, ConvTranspose, Lstm, Residual
from .rows import row_by_row

CHUNK_FRAMES = 500
"""Frames (10 s) that the encoder takes at a time, so that memory does not grow with the clip."""

BLOCK = 25
"""Frames (0.5 s) that the decoder takes at a time: what is streamed comes in multiples of them. Fewer cost more, since
each block reads all weights: on a CPU blocks of 10 take an eighth more time than these, longer ones save nothing.
"""

HALO = 4
"""Frames of context on each side of a chunk; the convolutions between audio and LSTM reach less than two."""

Network = Sequence[Callable[[mx.array], mx.array]]


class EnCodec:
    """Encoder, residual vector quantizer and decoder; float32 throughout (nearest-codeword choices need it)."""

    def __init__(self, config: CodecConfig, tensors: MutableMapping[str, mx.array], ops: Ops) -> None:
        """Take weights out of `tensors` one by one, so that none is kept beside the layout that `ops` makes of it."""
        if config.n_residual_layers != 1:
            raise ValueError(f"n_residual_layers={config.n_residual_layers} is not supported; the 32 kHz codec has 1")
        self.config, self.ops = config, ops
        self.hop = 1
        for ratio in config.ratios:
            self.hop *= ratio
        self.block = max(BLOCK, config.kernel_size)
        layers = _Layers(config, tensors, ops)
        self.encoder, self.encoder_lstm, self.to_latent = layers.encoder()
        self.from_latent, self.decoder_lstm, self.decoder = layers.decoder()
        self.codebooks = [
            tensors.pop(f"quantizer.vq.layers.{k}._codebook.embed").astype(mx.float32) for k in range(config.codebooks)
        ]
        self.squared = [(book * book).sum(axis=1) for book in self.codebooks]
        sums = [bias for lstm in (self.encoder_lstm, self.decoder_lstm) for _, _, bias in lstm.layers]
        mx.eval(self.codebooks, self.squared, sums)

    def encode(self, audio: mx.array) -> mx.array:
        """Encode audio float32 [B,n] at 32 kHz: codes int32 [B,K,T], T = ceil(n/640)."""
        return mx.concatenate(list(self.encoded([audio])), axis=2)

    def encoded(self, parts: Iterable[mx.array]) -> Iterator[mx.array]:
        """Encode audio that comes in parts [B,n] of any length: its codes [B,K,t] as they become known, evaluated."""
        for latent in self._latents(parts):
            codes = self.quantize(latent)
            mx.eval(codes)
            yield codes

    def decode(self, codes: mx.array) -> mx.array:
        """Decode codes int32 [B,K,T]: audio float32 [B,640·T], block by block, as `Decoding` does."""
        decoding, total, out = Decoding(self), codes.shape[2], []
        for start in range(0, total, self.block):
            stop = min(start + self.block, total)
            out.append(decoding(codes[:, :, start:stop], stop == total))
        return mx.concatenate(out, axis=1)

    def latent(self, audio: mx.array) -> mx.array:
        """Compute the encoder's output [B,T,dimension] of audio [B,n]."""
        return mx.concatenate(list(self._latents([audio])), axis=1)

    def _latents(self, parts: Iterable[mx.array]) -> Iterator[mx.array]:
        """Compute the encoder's output: memory holds a chunk at a time, since the LSTM and the last map carry on."""
        lstm, to_latent = codec_stream.of(self.encoder_lstm), codec_stream.of(self.to_latent)
        for x, last in self._chunks(parts):
            latent = to_latent(lstm(x, last), last)
            mx.eval(latent)
            if latent.shape[1]:
                yield latent

    def _chunks(self, parts: Iterable[mx.array]) -> Iterator[tuple[mx.array, bool]]:
        """Run the encoder's convolutions over `CHUNK_FRAMES` frames at a time; yield [B,t,C], and if it is the last.

        Each chunk sees `HALO` frames of its neighbors, which are cut off again: only the clip's own ends meet padding.
        """
        size = CHUNK_FRAMES * self.hop
        more = (part[:, at : at + size] for part in parts for at in range(0, part.shape[1], size))
        waiting, before = None, 0
        while True:
            while waiting is None or waiting.shape[1] <= (before + CHUNK_FRAMES + HALO) * self.hop:
                part = next(more, None)
                if part is None:
                    break
                waiting = part if waiting is None else mx.concatenate([waiting, part], axis=1)
            assert waiting is not None, "no audio"
            last = waiting.shape[1] <= (before + CHUNK_FRAMES) * self.hop
            seen = waiting[:, : (before + CHUNK_FRAMES + HALO) * self.hop, None]
            yield row_by_row(functools.partial(_through, self.encoder), seen)[:, before : before + CHUNK_FRAMES], last
            if last:
                return
            passed, before = before + CHUNK_FRAMES - HALO, HALO
            waiting = waiting[:, passed * self.hop :]

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


class Decoding:
    """A decoder at work: codes in, block by block, and each time the samples that are final by then.

    Every block but the last has `codec.block` frames: the same blocks give the same bits, however the codes came. The
    layers hold back 2402 samples (3.75 frames), which what follows can still change; the last block gives them too.
    """

    def __init__(self, codec: EnCodec, checked: Callable[[mx.array], mx.array] = mx.array) -> None:
        """Begin a decoder; `checked` takes the samples of each block and returns them, or raises."""
        self.codec, self.checked = codec, checked
        layers = (codec.from_latent, codec.decoder_lstm, *codec.decoder)
        self.streams = [codec_stream.of(layer) for layer in layers]

    def __call__(self, codes: mx.array, last: bool) -> mx.array:
        """Decode the next codes int32 [B,K,t]: samples float32 [B,n], evaluated."""
        x = self.codec.dequantize(codes)
        for stream in self.streams:
            x = stream(x, last)
        mx.eval(x)
        return self.checked(x[..., 0])


class _Layers:
    """The layers under audiocraft's names: a sequence whose numbers count the ELUs between the layers too."""

    def __init__(self, config: CodecConfig, tensors: MutableMapping[str, mx.array], ops: Ops) -> None:
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
        weight, bias = (self.tensors.pop(f"{name}.conv.conv.{part}") for part in ("weight", "bias"))
        return Conv(self.ops, self.ops.lay_out(weight, "conv1d"), bias, stride, elu, self.config.pad_mode)

    def transposed(self, name: str, stride: int) -> ConvTranspose:
        weight, bias = (self.tensors.pop(f"{name}.convtr.convtr.{part}") for part in ("weight", "bias"))
        return ConvTranspose(self.ops, self.ops.lay_out(weight, "conv_transpose1d", stride=stride), bias, stride)

    def residual(self, name: str) -> Residual:
        return Residual(self.conv(f"{name}.block.1"), self.conv(f"{name}.block.3"))

    def lstm(self, name: str) -> Lstm:
        layers = []
        for n in range(self.config.lstm):
            maps, biases = (
                [self.tensors.pop(f"{name}.lstm.{part}_{side}_l{n}") for side in ("ih", "hh")]
                for part in ("weight", "bias")
            )
            w_ih, w_hh = (self.ops.lay_out(each, "lstm") for each in maps)
            layers.append((w_ih, w_hh, biases[0] + biases[1]))
        return Lstm(self.ops, layers)


def _through(network: Network, x: mx.array) -> mx.array:
    for layer in network:
        x = layer(x)
    return x
