"""The MLX columns of `bench peers`: our model on a backend, and plain MLX in the style of mlx-examples' musicgen.

The plain one is what a good MLX programmer writes with `mlx.nn`: quantized linear layers one by one, caches that grow
by concatenation, `mx.fast` attention. Its text keys and values are cached (mlx-examples computes them at every step),
and its activations have the dtype that is fastest here. It has no adapter.
"""

from __future__ import annotations

import time
from typing import Any

import mlx.core as mx
import mlx.nn

import kernels
from model.bundle.bundle import open_bundle
from model.config import LMConfig
from model.decoding.decode import DecoderState
from model.network.projection import Weights
from model.network.state import LayerPrefix
from model.network.transformer import LanguageModel
from reference.precision import compute_dtype

nn: Any = mlx.nn  # has no types for a checker to see


class PlainAttention(nn.Module):  # type: ignore[misc]
    """Attention of four linear maps and `mx.fast.scaled_dot_product_attention`."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def split(self, x: mx.array) -> mx.array:
        """Reshape [B,T,dim] to [B,H,T,D]."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(0, 2, 1, 3)

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """Attend, and return the result after the output map."""
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)
        merged: mx.array = self.out_proj(out.transpose(0, 2, 1, 3).reshape(q.shape[0], q.shape[2], -1))
        return merged


class PlainLayer(nn.Module):  # type: ignore[misc]
    """A pre-norm layer: self-attention, attention to the text, feed-forward."""

    def __init__(self, lm: LMConfig) -> None:
        super().__init__()
        self.self_attn, self.cross_attn = PlainAttention(lm.dim, lm.heads), PlainAttention(lm.dim, lm.heads)
        self.linear1, self.linear2 = nn.Linear(lm.dim, lm.ffn, bias=False), nn.Linear(lm.ffn, lm.dim, bias=False)
        self.norm1, self.norm_cross, self.norm2 = (nn.LayerNorm(lm.dim) for _ in range(3))

    def __call__(
        self, x: mx.array, cache: tuple[mx.array, mx.array], text: tuple[mx.array, mx.array]
    ) -> tuple[mx.array, tuple[mx.array, mx.array]]:
        """Run x [B,1,dim] through the layer; return the result and the cache, which is one position longer."""
        a, h = self.self_attn, self.norm1(x)
        k = mx.concatenate([cache[0], a.split(a.k_proj(h))], axis=2)
        v = mx.concatenate([cache[1], a.split(a.v_proj(h))], axis=2)
        x = x + a.attend(a.split(a.q_proj(h)), k, v)
        c = self.cross_attn
        x = x + c.attend(c.split(c.q_proj(self.norm_cross(x))), *text)
        return x + self.linear2(nn.gelu(self.linear1(self.norm2(x)))), (k, v)


class Plain:
    """The whole language model in plain MLX."""

    def __init__(self, lm: LMConfig, bits: int, rows: int, start: int, steps: int, text: int) -> None:
        self.lm, self.rows, self.start, self.steps = lm, rows, start, steps
        dtype = compute_dtype(mx.float16)
        self.layers = []
        for _ in range(lm.layers):  # quantized one by one, so that no second copy is held
            layer = PlainLayer(lm)
            layer.set_dtype(dtype)
            if bits < 16:
                nn.quantize(layer, group_size=64 if lm.dim % 64 == 0 else 32, bits=bits)
            mx.eval(layer.parameters())
            self.layers.append(layer)
        self.embedding = [nn.Embedding(lm.card + 1, lm.dim) for _ in range(lm.codebooks)]
        self.heads = [nn.Linear(lm.dim, lm.card, bias=False) for _ in range(lm.codebooks)]
        self.norm = nn.LayerNorm(lm.dim)
        for module in (*self.embedding, *self.heads, self.norm):
            module.set_dtype(dtype)
            mx.eval(module.parameters())
        shape = (rows, lm.heads, start, lm.head_dim)
        self.caches = [(mx.random.normal(shape, dtype), mx.random.normal(shape, dtype)) for _ in self.layers]
        shape = (rows, lm.heads, text, lm.head_dim)
        self.text = [(mx.random.normal(shape, dtype), mx.random.normal(shape, dtype)) for _ in self.layers]
        mx.eval(self.caches, self.text)

    def round(self) -> dict[str, Any]:
        """Return the seconds of each step from `start` on."""
        caches, out = list(self.caches), []
        tokens = mx.zeros((self.rows, self.lm.codebooks, 1), dtype=mx.int32)
        for _ in range(self.steps):
            begin = time.perf_counter()
            x = self.embedding[0](tokens[:, 0])
            for k, embedding in enumerate(self.embedding[1:], start=1):
                x = x + embedding(tokens[:, k])
            for i, layer in enumerate(self.layers):
                x, caches[i] = layer(x, caches[i], self.text[i])
            x = self.norm(x)
            tokens = mx.stack([mx.argmax(head(x), axis=-1) for head in self.heads], axis=1).astype(mx.int32)
            mx.eval(tokens, caches)
            out.append(time.perf_counter() - begin)
        return {"step_seconds": out, "backend": "mlx"}


class Ours:
    """Our language model on a backend, with the adapter's prefix or without (the peers have none)."""

    def __init__(self, bundle: str, backend: str, prefix: int, rows: int, start: int, steps: int, text: int) -> None:
        opened = open_bundle(bundle)
        self.ops = kernels.load(backend)
        self.model = LanguageModel(Weights(opened.tensors, opened.config, self.ops))
        lm = self.model.config
        self.rows, self.start, self.steps = rows, start, steps
        shape = (rows // 2, lm.heads, max(prefix, start + steps), lm.head_dim)
        self.prefix = []
        for _ in range(lm.layers if prefix else 0):
            q, k, v = (mx.random.normal(shape, self.model.dtype) for _ in range(3))
            self.prefix.append(LayerPrefix(q, k[:, :, :prefix] + 0, v[:, :, :prefix] + 0, mx.array([0.5])))
            mx.eval(q, self.prefix[-1].k, self.prefix[-1].v)
        self.text = self.model.text_kv(mx.random.normal((rows // 2, text, lm.dim)))

    def round(self) -> dict[str, Any]:
        """Return the seconds of each step from `start` on."""
        stream = DecoderState(
            self.model,
            self.text,
            self.prefix,
            start_layer=0,
            rows=self.rows,
            slots=self.start + self.steps + 1,
            query_rows=self.start + self.steps + 1,
        )
        tokens, out = mx.zeros((self.rows, self.model.config.codebooks, 1), dtype=mx.int32), []
        mx.eval(stream(tokens))  # allocates the caches
        stream.position = self.start
        for _ in range(self.steps):
            begin = time.perf_counter()
            tokens = mx.argmax(self.model.logits(stream(tokens)), axis=-1).astype(mx.int32)
            mx.eval(tokens)
            out.append(time.perf_counter() - begin)
        return {"step_seconds": out, "backend": self.ops.name}


def make(kind: str, **settings: Any) -> tuple[Plain | Ours, dict[str, Any]]:
    """Make the column that `bench peers` asked for (see `processes.worker`)."""
    if kind == "plain":
        return Plain(LMConfig(**settings.pop("lm")), **settings), {}
    return Ours(**settings), {}
