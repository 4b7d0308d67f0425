"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan and others, 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix near the nearest orthogonal one, by five Newton-Schulz steps of fifth order in bfloat16."""
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon:
    """Update matrices; one with three times as many rows as columns (joint q, k, v) counts as three."""

    def __init__(self, parameters: list[nn.Parameter], decay: float = 0.02) -> None:
        self.parameters, self.decay = parameters, decay
        self.momenta = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Apply the gradients at a learning rate."""
        for parameter, momentum in zip(self.parameters, self.momenta):
            if parameter.grad is None:
                continue
            momentum.lerp_(parameter.grad, 1 - MOMENTUM)
            update = parameter.grad.lerp(momentum, MOMENTUM)
            rows, columns = parameter.shape
            if rows == 3 * columns:
                step, scale = torch.cat([orthogonal(part) for part in update.chunk(3)]), 1.0
            else:
                step, scale = orthogonal(update), max(1.0, rows / columns) ** 0.5
            parameter.mul_(1 - rate * self.decay).add_(step, alpha=-rate * scale)

    def state(self) -> list[Tensor]:
        """Return the momenta."""
        return self.momenta

    def load(self, state: list[Any]) -> None:
        """Restore the momenta."""
        for momentum, saved in zip(self.momenta, state):
            momentum.copy_(saved)
