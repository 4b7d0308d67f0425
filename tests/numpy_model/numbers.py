"""Norms, softmax, gelu: section 0 of the golden vectors' README."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Weights = Mapping[str, Array]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def layer_norm(x: Array, w: Weights, name: str) -> Array:
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = (centered**2).mean(axis=-1, keepdims=True)
    return centered / np.sqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))


def elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def attention(q: Array, k: Array, v: Array, visible: Array | None = None) -> Array:
    """softmax(q k^T / sqrt(d)) v; q [B,H,T,d], k, v [B,H,S,d], visible [T,S]."""
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    if visible is not None:
        scores = np.where(visible, scores, -np.inf)
    return softmax(scores) @ v


def heads(x: Array, count: int) -> Array:
    """[B,T,D] -> [B,H,T,d]."""
    return x.reshape(*x.shape[:2], count, -1).swapaxes(1, 2)


def joined(x: Array) -> Array:
    """[B,H,T,d] -> [B,T,D]."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


@dataclass
class Margin:
    """How far the best of every choice is ahead of the second best, note by note."""

    gaps: list[Array] = field(default_factory=list)

    def note(self, scores: Array) -> None:
        """A choice of the largest along the last axis."""
        top = np.partition(scores, -2, axis=-1)
        self.gaps.append(top[..., -1] - top[..., -2])

    @property
    def least(self) -> float:
        """The closest choice of all."""
        return min((float(gap.min()) for gap in self.gaps), default=math.inf)
