"""Section 4: the language model, all positions of a sequence at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .adapter import Prefix, embed
from .files import Upstream
from .numbers import Array, attention, gelu, heads, joined, layer_norm

Trace = list[dict[str, Array]]


def positions(length: int, dim: int) -> Array:
    """Sinusoids [length, dim], cosines first."""
    rates = 10000.0 ** (-np.arange(dim // 2) / (dim / 2 - 1))
    angles = np.arange(length)[:, None] * rates
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def logits(
    up: Upstream,
    sequence: Array,
    cond: Array,
    prefix: Sequence[Prefix],
    rows: int,
    trace: Trace | None = None,
) -> Array:
    """[B,K,S,V] for the delayed codes `sequence` [B,K,S] and text `cond` [B,L,D].

    Position j takes query row min(j, rows-1) of the prefix: `rows` is max_gen_len when streaming and at least S in the
    training form. `trace` collects each layer's inner tensors.
    """
    w, s = up.lm, sequence.shape[2]
    x = embed(up, sequence)
    x = x + positions(s, x.shape[-1])
    causal = np.tril(np.ones((s, s), bool))
    row = np.minimum(np.arange(s), rows - 1)
    for i in range(up.layers):
        layer, block_in = f"layers.{i}", x
        nx = layer_norm(x, w, f"{layer}.norm1")
        q, k, v = (heads(a, up.heads) for a in np.split(nx @ w[f"{layer}.self_attn.in_proj_weight"].T, 3, axis=-1))
        main = attention(q, k, v, causal)
        dt, gate = np.zeros_like(main), 0.0
        if i >= up.start_layer:
            p = prefix[i - up.start_layer]
            dt, gate = attention(q + p.q[:, :, row], p.k, p.v), p.gate
        merged = main + gate * dt
        x = x + joined(merged) @ w[f"{layer}.self_attn.out_proj.weight"].T
        cross = f"{layer}.cross_attention"
        q = heads(layer_norm(x, w, f"{layer}.norm_cross") @ w[f"{cross}.q_proj.weight"].T, up.heads)
        k, v = (heads(cond @ w[f"{cross}.{n}_proj.weight"].T, up.heads) for n in "kv")
        cross_out = joined(attention(q, k, v)) @ w[f"{cross}.out_proj.weight"].T
        x = x + cross_out
        hidden = gelu(layer_norm(x, w, f"{layer}.norm2") @ w[f"{layer}.linear1.weight"].T)
        x = x + hidden @ w[f"{layer}.linear2.weight"].T
        if trace is not None:
            trace.append({
                "block_in": block_in, "block_out": x, "main_attn": main, "dt_attn": dt, "merged": merged,
                "cross_out": cross_out,
            })  # fmt: skip
    x = layer_norm(x, w, "out_norm")
    return np.stack([x @ w[f"linears.{k}.weight"].T for k in range(sequence.shape[1])], axis=1)
