"""The codec as a torch module: SEANet encoder and decoder as audiocraft builds them for MusicGen (arXiv 2210.13438).

Not causal, reflect padding, weight norm, ratios 8 5 4 4, an LSTM with a skip on each side. The submodules' indices are
audiocraft's, so that exporting only renames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .quantizer import Quantizer

RATIOS = (8, 5, 4, 4)
HOP = 640
KERNEL = 7
RESIDUAL_KERNEL = 3
LSTM_LAYERS = 2


class Conv(nn.Module):
    """Convolve [B, in, n] to [B, out, ceil(n/stride)] with weight norm, padded as audiocraft's StreamableConv1d."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, gain: float = 1.3) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        weight = torch.randn(outputs, inputs, kernel) * gain / (inputs * kernel) ** 0.5
        self.weight_v = nn.Parameter(weight)
        self.weight_g = nn.Parameter(weight.flatten(1).norm(dim=1)[:, None, None].clone())
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of x."""
        total = self.kernel - self.stride
        right = total // 2
        left = total - right
        right += -x.shape[-1] % self.stride
        if left or right:
            x = F.pad(x, (left, right), mode="reflect")
        return F.conv1d(x, torch._weight_norm(self.weight_v, self.weight_g, 0), self.bias, self.stride)


class Transposed(nn.Module):
    """Stretch [B, in, n] to [B, out, n * stride]: the full output without the padding's share, odd sample left."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        weight = torch.randn(inputs, outputs, kernel) * 1.3 / (inputs * kernel / stride) ** 0.5
        self.weight_v = nn.Parameter(weight)
        self.weight_g = nn.Parameter(weight.flatten(1).norm(dim=1)[:, None, None].clone())
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the transposed convolution of x."""
        weight = torch._weight_norm(self.weight_v, self.weight_g, 0)
        y = F.conv_transpose1d(x, weight, self.bias, self.stride)
        total = self.kernel - self.stride
        right = total // 2
        return y[..., total - right : y.shape[-1] - right]


class Residual(nn.Module):
    """Add conv1(ELU(conv3(ELU(x)))) to x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.block = nn.Sequential(
            nn.ELU(), Conv(channels, hidden, RESIDUAL_KERNEL), nn.ELU(), Conv(hidden, channels, 1, gain=0.6)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of x's shape."""
        y: Tensor = self.block(x)
        return x + y


class SkipLSTM(nn.Module):
    """Run a stacked LSTM over [B, C, T] and add its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, LSTM_LAYERS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the LSTM's output plus x."""
        y, _ = self.lstm(x.permute(2, 0, 1))
        z: Tensor = y.permute(1, 2, 0) + x
        return z


def encoder(filters: int, dimension: int) -> nn.Sequential:
    """Build the encoder: audio [B, 1, n] to latents [B, dimension, ceil(n/640)]."""
    layers: list[nn.Module] = [Conv(1, filters, KERNEL, gain=8.0)]
    width = filters
    for ratio in reversed(RATIOS):
        layers += [Residual(width), nn.ELU(), Conv(width, 2 * width, 2 * ratio, ratio)]
        width *= 2
    return nn.Sequential(*layers, SkipLSTM(width), nn.ELU(), Conv(width, dimension, KERNEL))


def decoder(filters: int, dimension: int) -> nn.Sequential:
    """Build the decoder: latents [B, dimension, T] to audio [B, 1, 640 T]."""
    width = filters * 2 ** len(RATIOS)
    layers: list[nn.Module] = [Conv(dimension, width, KERNEL), SkipLSTM(width)]
    for ratio in RATIOS:
        layers += [nn.ELU(), Transposed(width, width // 2, 2 * ratio, ratio), Residual(width // 2)]
        width //= 2
    return nn.Sequential(*layers, nn.ELU(), Conv(width, 1, KERNEL, gain=0.1))


class Codec(nn.Module):
    """The encoder, the residual vector quantizer and the decoder."""

    def __init__(self, filters: int = 8, dimension: int = 64, codebooks: int = 4, bins: int = 256) -> None:
        super().__init__()
        self.encoder = encoder(filters, dimension)
        self.quantizer = Quantizer(codebooks, bins, dimension)
        self.decoder = decoder(filters, dimension)

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Encode audio [B,1,n] at 32 kHz: codes int64 [B,K,ceil(n/640)]."""
        return self.quantizer.codes(self.encoder(audio))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes [B,K,T]: audio [B,1,640·T]."""
        y: Tensor = self.decoder(self.quantizer.vectors(codes))
        return y
