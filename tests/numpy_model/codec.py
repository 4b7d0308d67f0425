"""Section 5: EnCodec's encoder, residual quantizer and decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .files import Upstream
from .numbers import Array, Margin, elu, sigmoid


@dataclass
class Codec:
    """The codec of `up`; `pad_mode` overrides the file's; `margin` notes the gaps of squared distances."""

    up: Upstream
    pad_mode: str | None = None
    margin: Margin = field(default_factory=Margin)

    @property
    def seanet(self) -> dict[str, Any]:
        return dict(self.up.codec_config["seanet"])

    def encode(self, audio: Array) -> Array:
        """Audio [B,1,L] -> codes [B,K,F]."""
        return self.quantize(self.latent(audio))

    def decode(self, codes: Array) -> Array:
        """Codes [B,K,F] -> audio [B,1,hop·F]."""
        return self.synthesis(self.dequantize(codes))

    def latent(self, audio: Array) -> Array:
        """[B,1,L] -> [B,dim,F]."""
        c = self.seanet
        x, at = self._conv(audio, "encoder.model.0"), 1
        for ratio in reversed(c["ratios"]):
            for j in range(c["n_residual_layers"]):
                x, at = self._residual(x, f"encoder.model.{at}", c["dilation_base"] ** j), at + 1
            x, at = self._conv(self._elu(x), f"encoder.model.{at + 1}", stride=ratio), at + 2
        if c["lstm"]:
            x, at = self._lstm(x, f"encoder.model.{at}"), at + 1
        return self._conv(self._elu(x), f"encoder.model.{at + 1}")

    def synthesis(self, z: Array) -> Array:
        """[B,dim,F] -> [B,1,hop·F]."""
        c = self.seanet
        x, at = self._conv(z, "decoder.model.0"), 1
        if c["lstm"]:
            x, at = self._lstm(x, f"decoder.model.{at}"), at + 1
        for ratio in c["ratios"]:
            x, at = self._transposed(self._elu(x), f"decoder.model.{at + 1}", ratio), at + 2
            for j in range(c["n_residual_layers"]):
                x, at = self._residual(x, f"decoder.model.{at}", c["dilation_base"] ** j), at + 1
        return self._conv(self._elu(x), f"decoder.model.{at + 1}")

    def quantize(self, z: Array) -> Array:
        rest, codes = z.swapaxes(1, 2), []
        for k in range(self.up.codec_config["rvq"]["n_q"]):
            table = self.up.codec[f"quantizer.vq.layers.{k}._codebook.embed"]
            distance = ((rest[..., None, :] - table) ** 2).sum(axis=-1)
            self.margin.note(-distance)
            codes.append(distance.argmin(axis=-1))
            rest = rest - table[codes[-1]]
        return np.stack(codes, axis=1)

    def dequantize(self, codes: Array) -> Array:
        tables = (self.up.codec[f"quantizer.vq.layers.{k}._codebook.embed"] for k in range(codes.shape[1]))
        return np.asarray(sum(table[codes[:, k]] for k, table in enumerate(tables))).swapaxes(1, 2)

    def _elu(self, x: Array) -> Array:
        return elu(x, self.seanet["activation_params"].get("alpha", 1.0))

    def _conv(self, x: Array, name: str, stride: int = 1, dilation: int = 1) -> Array:
        w = self.up.codec[f"{name}.conv.conv.weight"]
        span = (w.shape[2] - 1) * dilation + 1
        total = span - stride
        right = total // 2
        frames = -(-x.shape[2] // stride)
        full = (frames - 1) * stride + span
        x = self._padded(x, total - right, right + max(0, full - total - x.shape[2]))
        windows = np.lib.stride_tricks.sliding_window_view(x, span, axis=-1)[..., ::stride, ::dilation]
        return np.einsum("bifk,oik->bof", windows, w, optimize=True) + self.up.codec[f"{name}.conv.conv.bias"][:, None]

    def _padded(self, x: Array, left: int, right: int) -> Array:
        if (self.pad_mode or self.seanet["pad_mode"]) == "constant":
            return np.pad(x, [(0, 0), (0, 0), (left, right)])
        short = max(left, right) + 1 - x.shape[2]
        extra = max(short, 0)
        x = np.pad(x, [(0, 0), (0, 0), (0, extra)])
        x = np.pad(x, [(0, 0), (0, 0), (left, right)], mode="reflect")
        return x[..., : x.shape[2] - extra]

    def _transposed(self, x: Array, name: str, stride: int) -> Array:
        w = self.up.codec[f"{name}.convtr.convtr.weight"]
        kernel, frames = w.shape[2], x.shape[2]
        y = np.zeros((x.shape[0], w.shape[1], (frames - 1) * stride + kernel))
        for k in range(kernel):
            y[:, :, k : k + (frames - 1) * stride + 1 : stride] += np.einsum("bif,io->bof", x, w[:, :, k])
        y = y + self.up.codec[f"{name}.convtr.convtr.bias"][:, None]
        total = kernel - stride
        right = total // 2
        return y[:, :, total - right : y.shape[2] - right]

    def _residual(self, x: Array, name: str, dilation: int) -> Array:
        y = self._conv(self._elu(x), f"{name}.block.1", dilation=dilation)
        return x + self._conv(self._elu(y), f"{name}.block.3")

    def _lstm(self, x: Array, name: str) -> Array:
        """Layers over time [B,C,F], plus the input."""
        w, y = self.up.codec, x.transpose(2, 0, 1)
        for layer in range(self.seanet["lstm"]):
            ih, hh, b, c = (w[f"{name}.lstm.{n}_l{layer}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            h, cell, out = np.zeros(y.shape[1:]), np.zeros(y.shape[1:]), []
            for frame in y:
                i, f, g, o = np.split(frame @ ih.T + b + h @ hh.T + c, 4, axis=-1)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(cell)
                out.append(h)
            y = np.stack(out)
        return x + y.transpose(1, 2, 0)
