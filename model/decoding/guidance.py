"""Classifier-free guidance: how conditional and unconditional logits are mixed (Ho and Salimans, arXiv 2207.12598)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mlx.core as mx  # only for types, so that the command line checks its options without MLX

MAX_GUIDANCE = 1e6
"""The largest strength of guidance, of either sign: beyond it, logits could leave float32's range. Upstream uses 3."""


def guide(logits: mx.array, guidance: float) -> mx.array:
    """Mix logits [2B,...], the conditional rows first, to unconditional + (conditional - unconditional) · guidance."""
    conditional, unconditional = logits.split(2)
    return unconditional + (conditional - unconditional) * guidance
