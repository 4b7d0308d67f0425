"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan and others, 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices [..., r, c] near the nearest orthogonal ones.

    Five Newton-Schulz steps of fifth order, in bfloat16.
    """
    x = matrices.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon:
    """Update matrices; one with three times as many rows as columns (joint q, k, v) counts as three.

    Matrices of one shape are made orthogonal together.
    """

    def __init__(self, parameters: list[nn.Parameter], decay: float = 0.02) -> None:
        self.parameters, self.decay = parameters, decay
        self.momenta = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, rate: float | Tensor) -> None:
        """Apply the gradients at a learning rate, which may be a tensor on the device."""
        live = [(p, m) for p, m in zip(self.parameters, self.momenta) if p.grad is not None]
        gradients = [p.grad for p, _ in live]
        torch._foreach_lerp_([m for _, m in live], gradients, 1 - MOMENTUM)
        updates = torch._foreach_lerp(gradients, [m for _, m in live], MOMENTUM)
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for (parameter, _), update in zip(live, updates):
            rows, columns = parameter.shape
            parts = 3 if rows == 3 * columns else 1
            for piece, part in zip(parameter.chunk(parts), update.chunk(parts)):
                by_shape.setdefault(part.shape, []).append((piece, part))
        for (rows, columns), pairs in by_shape.items():
            scale = max(1.0, rows / columns) ** 0.5
            steps = orthogonal(torch.stack([part for _, part in pairs])) * (rate * scale)
            pieces = [piece for piece, _ in pairs]
            torch._foreach_mul_(pieces, 1 - rate * self.decay)
            torch._foreach_sub_(pieces, list(steps.unbind()))

    def state(self) -> list[Tensor]:
        """Return the momenta."""
        return self.momenta

    def load(self, state: list[Any]) -> None:
        """Restore the momenta."""
        for momentum, saved in zip(self.momenta, state):
            momentum.copy_(saved)
