"""CPTransformer: the input clip's codes become a prefix (q, k, v) for every adapted self-attention layer.

Instruct-MusicGen (arXiv 2405.18386), section 3.1. The stack shares the LM's own layers (without their attention to the
text) and adds per layer a merge map, a position table and a scalar gate. It is causal, and runs once for a clip.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from reference.heads import merge_heads, unstack

from .projection import Projection, Weights
from .rows import distinct, row_by_row
from .state import LayerPrefix
from .transformer import LanguageModel, Layer

ADAPTER_OWN = ("cp_transformer.merge_linear.", "cp_transformer.pos_emb")
"""Tensors that are loaded for each clip and freed."""


class Adapter:
    """The condition encoder of the input clip.

    Its own weights (a fifth of a 4-bit bundle) are needed once for a clip: `load` reads them from the file for it, each
    merge matrix when its layer's turn comes.
    """

    def __init__(self, weights: Weights, lm: LanguageModel, load: Callable[[list[str]], dict[str, mx.array]]) -> None:
        self.config = weights.config.adapter
        self.lm, self.ops, self.load = lm, weights.ops, load
        gates = weights.tensors.pop("cp_transformer.gates").astype(mx.float32)
        # Arrays of their own: a view would be bound at an offset that Metal's constant address space need not allow.
        self.gates = [mx.array([gates[i].item()], dtype=mx.float32) for i in range(self.config.layers)]

    def __call__(self, codes: mx.array, layers: int | None = None) -> list[LayerPrefix]:
        """Encode codes int32 [B,K,n], n <= max_n_frames + 1, the special frame at the end included: a prefix per layer.

        Equal clips (candidates) are encoded once. `layers`: only the first so many. Raises ValueError if there are more
        frames.
        """
        unique, rows = distinct(codes)
        if len(unique) < len(rows):
            each = mx.array(rows)
            encoded = self(mx.stack([codes[row] for row in unique]), layers)
            prefixes = [LayerPrefix(p.q[each], p.k[each], p.v[each], p.gate) for p in encoded]
            mx.eval([(p.q, p.k, p.v) for p in prefixes])
            return prefixes
        n = codes.shape[2]
        if n > self.config.max_n_frames + 1:
            raise ValueError(
                f"codes hold {n - 1} frames and the adapter takes {self.config.max_n_frames}; edit in windows "
                "(window_frames)"
            )
        content = self.lm.embed(codes)
        positions = self.positions(n)
        x = mx.broadcast_to(positions[0], content.shape)
        names = [_merge(i) for i in range(self.config.layers if layers is None else layers)]
        merges, prefixes = self.load(names), []
        for i, name in enumerate(names):
            x, prefix = self.layer(i, x, content, positions[i + 1], merge=merges.pop(name))
            # Nothing reads what the stack's last layer gives on: never evaluated, it is never computed.
            made = (prefix.q, prefix.k, prefix.v, *([x] if i + 1 < self.config.layers else []))
            mx.async_eval(*made)  # type: ignore[no-untyped-call]
            if i + 1 < len(names):
                mx.async_eval(merges[names[i + 1]])  # type: ignore[no-untyped-call]  # read while this layer runs
            # Waiting here bounds memory: the merge matrix and this layer's activations are released.
            mx.eval(*made)
            prefixes.append(prefix)
        return prefixes

    def positions(self, n: int) -> mx.array:
        """Load the first n rows of the position tables [layers + 1, n, dim]: the first is the stack's input."""
        return self._tensor("cp_transformer.pos_emb")[:, :n].astype(self.lm.dtype)

    def layer(
        self,
        i: int,
        x: mx.array,
        content: mx.array,
        positions: mx.array,
        layer: Layer | None = None,
        merge: mx.array | None = None,
    ) -> tuple[mx.array, LayerPrefix]:
        """Run the stack's layer i over x and content [B,n,dim], positions [n,dim].

        `layer` stands in for the LM's own, `merge` [dim,dim] is the layer's merge matrix, read if it is not given.
        Return the output [B,n,dim] and the prefix of its attention.
        """
        shared = layer or self.lm.layers[self.config.start_layer + i]
        weight = self._tensor(_merge(i)) if merge is None else merge
        merging = Projection(self.ops, weight.astype(self.ops.weight_dtype(weight.dtype)))

        def row(x: mx.array, content: mx.array) -> tuple[mx.array, ...]:
            # The merged content joins after the norm, and only here: the residual stream never sees it.
            normed = mx.fast.layer_norm(x, *shared.norm1) + positions
            qkv = shared.split(shared.qkv(merging(content, residual=normed)))
            q, k, v = (mx.contiguous(part) for part in unstack(qkv))
            attended = self.ops.attention(q, k, v, scale=shared.scale, mask="causal")
            x = shared.self_out(merge_heads(attended), residual=x)
            kept = self.lm.cache_dtype
            return shared.feed_forward(x), q, k.astype(kept), v.astype(kept)

        x, q, k, v = row_by_row(row, x, content)
        return x, LayerPrefix(q, k, v, self.gates[i])

    def _tensor(self, name: str) -> mx.array:
        return self.load([name])[name]


def _merge(layer: int) -> str:
    return f"cp_transformer.merge_linear.{layer}.weight"
