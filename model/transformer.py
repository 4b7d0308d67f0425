"""MusicGen's decoder-only transformer over delayed codebook tokens, with gated prefix attention in every layer.

MusicGen (arXiv 2306.05284) as audiocraft builds it: pre-norm layers of self-attention, attention to the text and a GELU
feed-forward; no biases, sinusoidal positions. Instruct-MusicGen adds the prefix to the self-attention.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import mlx.core as mx

from reference.contract import Ops, Packed

from .rows import row_by_row
from .state import CacheRows, KVCache, unstack
from .weights import Weights

if TYPE_CHECKING:
    from .adapter import LayerPrefix

Pair = tuple[mx.array, mx.array]
Cache = KVCache | CacheRows


def sinusoid(positions: int, dim: int) -> mx.array:
    """[cos(j w), sin(j w)] for j < positions, w_m = 10000^(-m/(dim/2-1)); float32 [positions, dim], cosines first."""
    half = dim // 2
    rates = 10000.0 ** (-mx.arange(half, dtype=mx.float32) / (half - 1))
    phase = mx.arange(positions, dtype=mx.float32)[:, None] * rates
    return mx.concatenate([mx.cos(phase), mx.sin(phase)], axis=-1)


class Layer:
    """One transformer layer. Activations are [B,T,dim]; B counts both rows of each guidance pair."""

    def __init__(self, weights: Weights, index: int) -> None:
        name, lm = f"layers.{index}", weights.config.lm
        attend, cross = f"{name}.self_attn", f"{name}.cross_attn"
        self.heads, self.head_dim = lm.heads, lm.head_dim
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

    def split(self, x: mx.array) -> tuple[mx.array, ...]:
        """[B,T,n·dim] -> n arrays [B,H,T,D], views."""
        return unstack(self._heads(x))

    def _heads(self, x: mx.array) -> mx.array:
        """[B,T,n·dim] -> [n,B,H,T,D], a view."""
        return x.reshape(*x.shape[:2], -1, self.heads, self.head_dim).transpose(2, 0, 3, 1, 4)

    def merge(self, x: mx.array) -> mx.array:
        """[B,H,T,D] -> [B,T,dim]."""
        return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)

    def text_kv(self, ops: Ops, text: mx.array) -> Pair:
        """Keys and values [B,H,L,D] of the text condition [B,L,dim]; the same at every step."""
        k, v = self.split(self.cross_kv(ops, text))
        return mx.contiguous(k), mx.contiguous(v)

    def __call__(
        self, ops: Ops, x: mx.array, cache: Cache, position: int, text: Pair, prefix: LayerPrefix | None, row: int
    ) -> mx.array:
        """x [B,T,dim] at `position`..; the prefix's query rows begin at `row`."""
        x = self.self_out(ops, self._self_attention(ops, x, cache, position, prefix, row), residual=x)
        x = self.cross_out(ops, self._text_attention(ops, x, text), residual=x)
        return self.feed_forward(ops, x)

    def feed_forward(self, ops: Ops, x: mx.array) -> mx.array:
        """x + W2 gelu(W1 LN2(x))."""
        return self.linear2(ops, self.linear1(ops, x, norm=self.norm2, activation="gelu"), residual=x)

    def _self_attention(
        self, ops: Ops, x: mx.array, cache: Cache, position: int, prefix: LayerPrefix | None, row: int
    ) -> mx.array:
        qkv, steps = self._heads(self.qkv(ops, x, norm=self.norm1)), x.shape[1]
        q, length = qkv[:1].squeeze(0), position + steps
        k, v = cache.write(qkv[1:], position)
        if prefix is None:
            seen_k, seen_v = k[:, :, :length], v[:, :, :length]
            return self.merge(ops.attention(q, seen_k, seen_v, scale=self.scale, mask="causal"))
        prefix_q = prefix.q[:, :, row : row + steps]
        out = ops.prefix_attention(
            q, k, v, prefix_q, prefix.k, prefix.v, prefix.gate, scale=self.scale, length=length
        )
        return self.merge(out)

    def _text_attention(self, ops: Ops, x: mx.array, text: Pair) -> mx.array:
        """Attention to the text, exactly 0 for the unconditional rows (the last ones): their keys and values are 0."""
        w, (k, v) = self.cross_q, text
        if isinstance(w.weight, Packed):
            return ops.cross_attention(x, w.weight, k=k, v=v, scale=self.scale, norm=self.norm_cross)
        (q,) = self.split(w(ops, x[: k.shape[0]], norm=self.norm_cross))
        out = self.merge(ops.attention(q, k, v, scale=self.scale))
        return mx.pad(out, [(0, x.shape[0] - k.shape[0]), (0, 0), (0, 0)])


class LanguageModel:
    """The LM: embeddings of K codebooks summed, the layers, one output head for each codebook."""

    def __init__(self, weights: Weights) -> None:
        self.config, self.ops, self.dtype = weights.config.lm, weights.ops, weights.dtype
        codebooks = range(self.config.codebooks)
        self.embedding = mx.concatenate([weights.tensors.pop(f"emb.{k}.weight") for k in codebooks])
        self.heads = weights.stacked(*[f"linears.{k}" for k in codebooks])
        self.out_norm = weights.norm("out_norm")
        self.layers = [Layer(weights, i) for i in range(self.config.layers)]
        self._offset = (mx.arange(self.config.codebooks) * (self.config.card + 1))[:, None]
        mx.eval(self.embedding, self.heads.arrays(), self.out_norm, self._offset)

    def embed(self, tokens: mx.array) -> mx.array:
        """tokens int32 [B,K,T] -> the sum of their embeddings [B,T,dim], without positions."""
        return self.embedding[tokens + self._offset].astype(self.dtype).sum(axis=1)

    def text_kv(self, text: mx.array) -> list[Pair]:
        """Every layer's keys and values of the text condition [B,L,dim], evaluated layer by layer, each row alone."""
        text, pairs = text.astype(self.dtype), []
        for layer in self.layers:
            k, v = row_by_row(functools.partial(layer.text_kv, self.ops), text)
            mx.eval(k, v)
            pairs.append((k, v))
        return pairs

    def logits(self, x: mx.array) -> mx.array:
        """[B,T,dim] -> float32 [B,K,T,card]."""
        out = self.heads(self.ops, x, norm=self.out_norm).astype(mx.float32)
        return out.reshape(*x.shape[:2], self.config.codebooks, -1).transpose(0, 2, 1, 3)


class Stream:
    """One window's generation: caches, text keys and values, and the prefix; position after position."""

    def __init__(
        self,
        lm: LanguageModel,
        text: list[Pair],
        prefix: list[LayerPrefix],
        *,
        start_layer: int,
        rows: int,
        slots: int,
        query_rows: int,
    ) -> None:
        """`rows` count both rows of guidance pairs; `slots` the positions that will come; `query_rows` the prefix's
        query rows in use (the frames to generate: later positions keep the last one, as upstream does)."""
        config = lm.config
        self.lm, self.text, self.position, self.query_rows = lm, text, 0, query_rows
        self.prefix = [None] * start_layer + [*prefix] + [None] * (config.layers - start_layer - len(prefix))
        self.caches = [KVCache(rows, config.heads, slots, config.head_dim, lm.dtype) for _ in lm.layers]
        self.positions = sinusoid(slots, config.dim).astype(lm.dtype)

    def __call__(self, tokens: mx.array) -> mx.array:
        """tokens int32 [B,K,T], the next T positions -> the last layer's output [B,T,dim]."""
        steps = tokens.shape[2]
        row = min(self.position, self.query_rows - 1)
        if steps > 1 and row + steps > self.query_rows:
            raise ValueError(f"{steps} positions from {self.position} pass the prefix's {self.query_rows} query rows")
        x = self.lm.embed(tokens) + self.positions[self.position : self.position + steps]
        for layer, cache, text, prefix in zip(self.lm.layers, self.caches, self.text, self.prefix):
            if steps == 1:
                x = layer(self.lm.ops, x, cache, self.position, text, prefix, row)
            else:
                x = self._clip_by_clip(layer, x, cache, text, prefix, row)
        self.position += steps
        return x

    def _clip_by_clip(
        self, layer: Layer, x: mx.array, cache: KVCache, text: Pair, prefix: LayerPrefix | None, row: int
    ) -> mx.array:
        """A layer over many positions: each clip's row, or its two rows with guidance, as in a batch of its own.

        Products of that many rows are rounded otherwise where there are more of them; see `model.rows`.
        """
        clips, out = text[0].shape[0], []
        for i in range(clips):
            part = slice(i, i + 1)
            own = None if prefix is None else prefix.rows(part)
            rows = slice(i, None, clips)
            own_text = (text[0][part], text[1][part])
            out.append(layer(self.lm.ops, x[rows], CacheRows(cache, rows), self.position, own_text, own, row))
        return mx.stack(out, axis=1).reshape(x.shape)
