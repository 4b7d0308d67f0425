"""Section 3: the condition encoder's prefix for each adapted layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .files import Upstream
from .numbers import Array, attention, gelu, heads, joined, layer_norm


@dataclass(frozen=True)
class Prefix:
    """One adapted layer's q, k, v [B,H,n,d], its gate, its input's addition e and its output x [B,n,D]."""

    q: Array
    k: Array
    v: Array
    gate: float
    e: Array
    x: Array


def embed(up: Upstream, codes: Array) -> Array:
    """Codes [B,K,T] -> the sum of their rows [B,T,D]."""
    return np.asarray(sum(up.lm[f"emb.{k}.weight"][codes[:, k]] for k in range(codes.shape[1])))


def prefixes(up: Upstream, codes: Array) -> list[Prefix]:
    """`codes` [B,K,n], the caller's extra frame included."""
    w, n = up.lm, codes.shape[2]
    content, positions = embed(up, codes), up.lm["pos_emb"][:, :n]
    x = np.broadcast_to(positions[0], content.shape)
    causal = np.tril(np.ones((n, n), bool))
    result = []
    for i in range(up.adapted):
        layer = f"layers.{up.start_layer + i}"
        e = content @ w[f"merge_linear.{i}.weight"].T + positions[i + 1]
        nx = layer_norm(x, w, f"{layer}.norm1") + e
        q, k, v = (heads(a, up.heads) for a in np.split(nx @ w[f"{layer}.self_attn.in_proj_weight"].T, 3, axis=-1))
        x = x + joined(attention(q, k, v, causal)) @ w[f"{layer}.self_attn.out_proj.weight"].T
        hidden = gelu(layer_norm(x, w, f"{layer}.norm2") @ w[f"{layer}.linear1.weight"].T)
        x = x + hidden @ w[f"{layer}.linear2.weight"].T
        result.append(Prefix(q, k, v, float(w["gates"][i]), e, x))
    return result
