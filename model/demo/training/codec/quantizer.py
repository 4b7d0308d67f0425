"""Residual vector quantization; the codebooks follow the latents by moving averages (arXiv 2210.13438, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DECAY = 0.98
SAMPLES = 16_384
"""Latents that a k-means fit looks at."""


class Quantizer(nn.Module):
    """K codebooks of `bins` vectors; each quantizes what the ones before have left."""

    books: Tensor
    uses: Tensor
    sums: Tensor
    fitted: Tensor

    def __init__(self, codebooks: int, bins: int, dimension: int) -> None:
        super().__init__()
        self.codebooks, self.bins = codebooks, bins
        self.register_buffer("books", torch.zeros(codebooks, bins, dimension))
        self.register_buffer("uses", torch.ones(codebooks, bins))
        self.register_buffer("sums", torch.zeros(codebooks, bins, dimension))
        self.register_buffer("fitted", torch.zeros(1))

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize latents [B, D, T] with a straight-through gradient; while training the codebooks follow.

        Return the quantized latents and the commitment loss.
        """
        batch, width, frames = latent.shape
        x = latent.permute(0, 2, 1).reshape(-1, width)
        residual, total, commitment = x, torch.zeros_like(x), x.new_zeros(())
        for k in range(self.codebooks):
            seen = residual.detach()
            chosen = self._nearest(k, seen)
            vectors = self.books[k][chosen]
            if self.training:
                self._follow(k, seen, chosen)
            commitment = commitment + F.mse_loss(residual, vectors)
            total, residual = total + vectors, residual - vectors
        through = x + (total - x).detach()
        return through.view(batch, frames, width).permute(0, 2, 1), commitment / self.codebooks

    @torch.no_grad()
    def codes(self, latent: Tensor) -> Tensor:
        """Quantize latents [B,D,T]: codes int64 [B,K,T]."""
        batch, width, frames = latent.shape
        residual = latent.permute(0, 2, 1).reshape(-1, width)
        codes = []
        for k in range(self.codebooks):
            codes.append(self._nearest(k, residual))
            residual = residual - self.books[k][codes[-1]]
        return torch.stack(codes, 1).view(batch, frames, -1).permute(0, 2, 1)

    def vectors(self, codes: Tensor) -> Tensor:
        """Sum the vectors of codes [B,K,T]: [B,D,T]."""
        total = self.books[0][codes[:, 0]]
        for k in range(1, self.codebooks):
            total = total + self.books[k][codes[:, k]]
        return total.permute(0, 2, 1)

    @torch.no_grad()
    def fit(self, latents: Tensor, rounds: int = 10) -> None:
        """Fit every codebook by k-means to latents [N, D], one after the other on what is left."""
        residual = latents[torch.randperm(len(latents))[:SAMPLES]]
        for k in range(self.codebooks):
            self.books[k] = residual[torch.randint(len(residual), (self.bins,))]
            for _ in range(rounds):
                chosen = self._nearest(k, residual)
                uses, sums = self._tally(residual, chosen)
                spare = residual[torch.randint(len(residual), (self.bins,))]
                self.books[k] = torch.where(uses[:, None] > 0, sums / uses.clamp(min=1)[:, None], spare)
            self.uses[k] = 2.0
            self.sums[k] = self.books[k] * 2.0
            residual = residual - self.books[k][self._nearest(k, residual)]
        self.fitted.fill_(1)

    def _nearest(self, k: int, x: Tensor) -> Tensor:
        book = self.books[k]
        return (book.pow(2).sum(1) - 2 * x @ book.T).argmin(1)

    def _tally(self, x: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        uses = x.new_zeros(self.bins).index_add_(0, chosen, x.new_ones(len(x)))
        return uses, x.new_zeros(self.bins, x.shape[1]).index_add_(0, chosen, x)

    @torch.no_grad()
    def _follow(self, k: int, x: Tensor, chosen: Tensor) -> None:
        """Move a codebook towards the means of what chose it, and give vectors that nothing chooses to the data."""
        uses, sums = self._tally(x, chosen)
        self.uses[k].mul_(DECAY).add_(uses, alpha=1 - DECAY)
        self.sums[k].mul_(DECAY).add_(sums, alpha=1 - DECAY)
        share = len(x) / self.bins
        dead = self.uses[k] < 0.1 * share
        fresh = x[torch.randint(len(x), (self.bins,), device=x.device)]
        moved = self.sums[k] / self.uses[k].clamp(min=1e-5)[:, None]
        self.books[k] = torch.where(dead[:, None], fresh, moved)
        self.sums[k] = torch.where(dead[:, None], fresh * 0.5 * share, self.sums[k])
        self.uses[k] = self.uses[k].masked_fill(dead, 0.5 * share)
