"""CPTransformer: the input clip's codes become a prefix (q, k, v) for every adapted self-attention layer.

Instruct-MusicGen (arXiv 2405.18386), section 3.1. The stack shares the LM's own layers (without their attention to the
text) and adds per layer a merge map, a position table and a scalar gate. It is causal, and runs once for a clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from reference.contract import Ops

from .rows import row_by_row
from .transformer import LanguageModel
from .weights import Weights

ADAPTER_OWN = ("cp_transformer.merge_linear.", "cp_transformer.pos_emb")
"""Tensors that are read for a clip and let go."""


@dataclass(frozen=True)
class LayerPrefix:
    """What one LM layer attends to: q, k, v [B,H,n,D], and the raw scalar gate [1] of that second attention."""

    q: mx.array
    k: mx.array
    v: mx.array
    gate: mx.array

    def rows(self, part: slice) -> LayerPrefix:
        """The prefix of some rows."""
        return LayerPrefix(self.q[part], self.k[part], self.v[part], self.gate)


class Adapter:
    """The condition encoder of the input clip.

    Its own weights (a fifth of a 4-bit bundle) are needed once for a clip: they are read from the file for it, each
    merge matrix when its layer's turn comes, and let go.
    """

    def __init__(self, weights: Weights, lm: LanguageModel, reload: Callable[[list[str]], dict[str, mx.array]]) -> None:
        self.config = weights.config.adapter
        self.lm = lm
        self.ops: Ops = weights.ops
        self._reload = reload
        gates = weights.tensors.pop("cp_transformer.gates").astype(mx.float32)
        # Arrays of their own: a view would be bound at an offset that Metal's constant address space need not allow.
        self.gates = [mx.array([gates[i].item()], dtype=mx.float32) for i in range(self.config.layers)]

    def __call__(self, codes: mx.array) -> list[LayerPrefix]:
        """codes int32 [B,K,n], n <= max_n_frames + 1, the special frame at the end included -> a prefix per layer."""
        n = codes.shape[2]
        if n > self.config.max_n_frames + 1:
            raise ValueError(f"{n - 1} frames are more than the adapter's {self.config.max_n_frames}; use windows")
        content = self.lm.embed(codes)
        positions = self._tensor("cp_transformer.pos_emb")[:, :n]
        x = mx.broadcast_to(positions[0].astype(content.dtype), content.shape)
        prefixes = []
        for i in range(self.config.layers):
            x, prefix = self.layer(i, x, content, positions[i + 1].astype(content.dtype))
            # Evaluating here bounds memory: the merge matrix and this layer's activations are released.
            mx.eval(x, prefix.q, prefix.k, prefix.v)
            prefixes.append(prefix)
        return prefixes

    def _tensor(self, name: str) -> mx.array:
        return self._reload([name])[name]

    def layer(
        self, i: int, x: mx.array, content: mx.array, positions: mx.array
    ) -> tuple[mx.array, LayerPrefix]:
        """x, content [B,n,dim], positions [n,dim] -> the layer's output [B,n,dim] and the prefix of its attention."""
        layer, ops = self.lm.layers[self.config.start_layer + i], self.ops
        merge = self._tensor(f"cp_transformer.merge_linear.{i}.weight")
        merge = merge.astype(ops.weight_dtype(merge.dtype))

        def row(x: mx.array, content: mx.array) -> tuple[mx.array, ...]:
            # The merged content joins after the norm, and only here: the residual stream never sees it.
            normed = mx.fast.layer_norm(x, *layer.norm1) + positions
            q, k, v = layer.split(layer.qkv(ops, ops.linear(content, merge, residual=normed)))
            q, k, v = mx.contiguous(q), mx.contiguous(k), mx.contiguous(v)
            x = layer.self_out(ops, layer.merge(ops.attention(q, k, v, scale=layer.scale, mask="causal")), residual=x)
            return layer.feed_forward(ops, x), q, k, v

        x, q, k, v = row_by_row(row, x, content)
        return x, LayerPrefix(q, k, v, self.gates[i])
