"""How one model's predictions differ from another's, from their logits: all in float64 numpy, over the last axis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

Float64 = npt.NDArray[np.float64]


def log_softmax(logits: npt.ArrayLike) -> Float64:
    """Return log probabilities in nats, same shape."""
    return np.asarray(special.log_softmax(np.asarray(logits, dtype=np.float64), axis=-1), dtype=np.float64)


def kl(reference: npt.ArrayLike, logits: npt.ArrayLike) -> Float64:
    """Return KL(reference || other) in nats.

    That is the cost of predicting with `logits` what follows the reference's distribution.

    Both [..., V]; result [...], at least 0, and exactly 0 for equal logits.
    """
    p, q = log_softmax(reference), log_softmax(logits)
    return np.asarray(np.maximum((np.exp(p) * (p - q)).sum(axis=-1), 0.0), dtype=np.float64)


def top1_agreement(reference: npt.ArrayLike, logits: npt.ArrayLike) -> Float64:
    """Return 1.0 where both have the same most probable token, else 0.0: [...,V] gives [...]."""
    a, b = np.asarray(reference), np.asarray(logits)
    return np.asarray(a.argmax(axis=-1) == b.argmax(axis=-1), dtype=np.float64)


def topk_agreement(reference: npt.ArrayLike, logits: npt.ArrayLike, k: int) -> Float64:
    """Return the share of the reference's `k` most probable tokens among the other's; [..., V] -> [...]."""
    a, b = np.asarray(reference), np.asarray(logits)
    if not 1 <= k <= a.shape[-1]:
        raise ValueError(f"k={k} must lie between 1 and the {a.shape[-1]} tokens")
    best = [np.argsort(-x, axis=-1, kind="stable")[..., :k] for x in (a, b)]
    masks = [np.zeros(a.shape, dtype=bool) for _ in best]
    for mask, index in zip(masks, best):
        np.put_along_axis(mask, index, True, axis=-1)
    return np.asarray((masks[0] & masks[1]).sum(axis=-1) / k, dtype=np.float64)


def negative_log_likelihood(logits: npt.ArrayLike, tokens: npt.ArrayLike) -> Float64:
    """Return -log p(token) in nats for logits [...,V] and tokens [...]; exp of its mean is the perplexity."""
    index = np.asarray(tokens)[..., None]
    return np.asarray(-np.take_along_axis(log_softmax(logits), index, axis=-1)[..., 0], dtype=np.float64)


def relative_error(reference: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return |other - reference| / |reference| in the 2-norm over all elements; 0 where both are 0 throughout."""
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(other, dtype=np.float64)
    difference, size = np.linalg.norm(b - a), np.linalg.norm(a)
    if difference == 0:
        return 0.0
    return float(difference / size) if size > 0 else float("inf")
