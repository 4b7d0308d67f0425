"""MusicGen's decoder-only transformer over delayed codebook tokens, with gated prefix attention in every layer.

MusicGen (arXiv 2306.05284) as audiocraft builds it: pre-norm layers of self-attention, attention to the text and a GELU
feed-forward; no biases, sinusoidal positions. Instruct-MusicGen adds the prefix to the self-attention.
"""

from __future__ import annotations

import math

import mlx.core as mx

from reference.heads import stack_heads, unstack

from .projection import Weights
from .rows import row_by_row
from .state import LayerState, TextKV


def sinusoid(positions: int, dim: int) -> mx.array:
    """Return [cos(j w), sin(j w)] for j < positions, w_m = 10000^(-m/(dim/2-1)): float32 [positions, dim]."""
    half = dim // 2
    rates = 10000.0 ** (-mx.arange(half, dtype=mx.float32) / (half - 1))
    phase = mx.arange(positions, dtype=mx.float32)[:, None] * rates
    return mx.concatenate([mx.cos(phase), mx.sin(phase)], axis=-1)


class Layer:
    """One transformer layer. Activations are [B,T,dim]; B counts both rows of each guidance pair."""

    def __init__(self, weights: Weights, index: int) -> None:
        name, lm = f"layers.{index}", weights.config.lm
        attend, cross = f"{name}.self_attn", f"{name}.cross_attn"
        self.ops, self.heads, self.head_dim = weights.ops, lm.heads, lm.head_dim
        self.scale = 1 / math.sqrt(lm.head_dim)
        self.norm1, self.norm_cross = weights.norm(f"{name}.norm1"), weights.norm(f"{name}.norm_cross")
        self.norm2 = weights.norm(f"{name}.norm2")
        self.qkv = weights.stacked(f"{attend}.q_proj", f"{attend}.k_proj", f"{attend}.v_proj")
        self.self_out = weights.projection(f"{attend}.out_proj")
        self.cross_q = weights.projection(f"{cross}.q_proj")
        self.cross_kv = weights.stacked(f"{cross}.k_proj", f"{cross}.v_proj")
        self.cross_out = weights.projection(f"{cross}.out_proj")
        self.linear1, self.linear2 = weights.projection(f"{name}.linear1"), weights.projection(f"{name}.linear2")
        maps = (self.qkv, self.self_out, self.cross_q, self.cross_kv, self.cross_out, self.linear1, self.linear2)
        # Layer by layer, so that the parts of the stacked maps are released before the next layer is read.
        mx.eval([m.arrays() for m in maps], self.norm1, self.norm_cross, self.norm2)

    def __call__(self, x: mx.array, state: LayerState) -> mx.array:
        """Run the layer over x [B,T,dim], the positions from `state.position` on."""
        x = self.self_attention(x, state)
        x = self.text_attention(x, state.text)
        return self.feed_forward(x)

    def self_attention(self, x: mx.array, state: LayerState) -> mx.array:
        """Return x + out(SDPA(q,k,v) + gate · SDPA(q + prefix_q,prefix_k,prefix_v)); the second only with a prefix."""
        attended, state.cache.kv = self.ops.self_attention(
            self.qkv(x, norm=self.norm1), state.cache.kv, state.position, state.prefix, scale=self.scale,
            rows=state.rows, query_row=state.query_row,
        )  # fmt: skip
        return self.self_out(attended, residual=x)

    def text_attention(self, x: mx.array, text: TextKV) -> mx.array:
        """Return x + out(SDPA(q,text_k,text_v)), and x for the unconditional rows, which come last."""
        attended = self.cross_q.cross_attention(x, text.k, text.v, scale=self.scale, norm=self.norm_cross)
        return self.cross_out(attended, residual=x)

    def feed_forward(self, x: mx.array) -> mx.array:
        """Return x + W2 gelu(W1 LN2(x))."""
        return self.linear2(self.linear1(x, norm=self.norm2, activation="gelu"), residual=x)

    def text_kv(self, text: mx.array) -> TextKV:
        """Compute the keys and values of the text condition [B,L,dim]."""
        k, v = unstack(self.split(self.cross_kv(text)))
        return TextKV(mx.contiguous(k), mx.contiguous(v))

    def split(self, x: mx.array) -> mx.array:
        """Reshape n maps side by side, [B,T,n·dim], to [n,B,H,T,D], a view."""
        return stack_heads(x, self.heads, self.head_dim)


class LanguageModel:
    """The LM: embeddings of K codebooks summed, the layers, one output head for each codebook."""

    def __init__(self, weights: Weights) -> None:
        self.config, self.ops, self.dtype = weights.config.lm, weights.ops, weights.dtype
        self._stored = weights.config.dtype
        codebooks = range(self.config.codebooks)
        self.embedding = mx.concatenate([weights.tensors.pop(f"emb.{k}.weight") for k in codebooks])
        self.heads = weights.stacked(*[f"linears.{k}" for k in codebooks])
        self.out_norm = weights.norm("out_norm")
        self.layers = [Layer(weights, i) for i in range(self.config.layers)]
        self._offset = (mx.arange(self.config.codebooks) * (self.config.card + 1))[:, None]
        mx.eval(self.embedding, self.heads.arrays(), self.out_norm, self._offset)

    @property
    def cache_dtype(self) -> mx.Dtype:
        """The dtype of keys and values that are kept from step to step."""
        return self.ops.cache_dtype(self._stored)

    def embed(self, tokens: mx.array) -> mx.array:
        """Sum the embeddings of tokens int32 [B,K,T]: [B,T,dim], without positions."""
        return self.embedding[tokens + self._offset].astype(self.dtype).sum(axis=1)

    def text_kv(self, text: mx.array) -> list[TextKV]:
        """Compute every layer's keys and values of the text condition [B,L,dim], layer by layer, each row alone."""
        text, found = text.astype(self.dtype), []
        for layer in self.layers:
            found.append(TextKV(*row_by_row(layer.text_kv, text)))
            mx.eval(found[-1])
        return found

    def logits(self, x: mx.array) -> mx.array:
        """Compute the scores float32 [B,K,T,card] of the last layer's output [B,T,dim]."""
        out = self.heads(x, norm=self.out_norm).astype(mx.float32)
        return out.reshape(*x.shape[:2], self.config.codebooks, -1).transpose(0, 2, 1, 3)
