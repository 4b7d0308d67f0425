"""What the codec is trained and judged by: mel spectra at four resolutions, relative error, SI-SDR, log-mel."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ....spectra import BANDS, FLOOR, SIZE, mel_filters

RESOLUTIONS = ((256, 20), (512, 40), (1024, 64), (2048, 80))
"""FFT size and mel bands of each spectrum; the hop is a quarter of the size."""


@lru_cache(maxsize=16)
def _bank(size: int, bands: int, device: str) -> tuple[Tensor, Tensor]:
    """Return the mel filters [bands, size/2+1] and the window."""
    return torch.tensor(mel_filters(size, bands), device=device), torch.hann_window(size, device=device)


def mel(audio: Tensor, size: int, bands: int) -> Tensor:
    """Compute magnitudes in mel bands [B,bands,frames] of audio [B,1,n]."""
    filters, window = _bank(size, bands, str(audio.device))
    spectrum = torch.stft(audio.squeeze(1), size, size // 4, window=window, return_complex=True)
    magnitude = (spectrum.real**2 + spectrum.imag**2 + 1e-9).sqrt()
    return filters @ magnitude * (4 / size**0.5)


def spectral_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean over resolutions of the absolute differences of mel spectra and of their logarithms."""
    total = output.new_zeros(())
    for size, bands in RESOLUTIONS:
        a, b = mel(output, size, bands), mel(target, size, bands)
        total = total + F.l1_loss(a.clamp(min=1e-3).log(), b.clamp(min=1e-3).log()) + F.l1_loss(a, b)
    return total / len(RESOLUTIONS)


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean over rows of squared error over the target's power."""
    return ((output - target).pow(2).mean((1, 2)) / (target.pow(2).mean((1, 2)) + 1e-3)).mean()


def log_mel(audio: Tensor) -> Tensor:
    """Compute 80 mel bands in dB of audio [B,1,n], nothing below -54 dB."""
    return 20 * torch.log10(mel(audio, SIZE, BANDS).clamp(min=FLOOR))


def si_sdr(output: Tensor, target: Tensor) -> Tensor:
    """Return the scale-invariant signal-to-distortion ratio of each row, in dB."""
    x, y = output.flatten(1), target.flatten(1)
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    projected = (x * y).sum(1, keepdim=True) / (y.pow(2).sum(1, keepdim=True) + 1e-8) * y
    return 10 * torch.log10(projected.pow(2).sum(1) / ((x - projected).pow(2).sum(1) + 1e-8) + 1e-8)
