"""The T5 encoder that reads the instruction, and its tokenizer.

T5 (arXiv 1910.10683), Hugging Face's weights: RMS norm without a bias, no scaling of scores, relative position buckets
shared by all layers, ReLU feed-forward. Always float32: T5's activations overflow float16.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from kernels.contract import Ops

from .errors import UserError

MASKED = -1e9
"""Added to the score of a padded position; exp of it is exactly 0 in float32."""


class Tokenizer:
    """Text to token ids, each row ending with eos, padded to the longest row."""

    def __init__(self, folder: Path) -> None:
        self._encode = _encoder(folder)

    def __call__(self, texts: Sequence[str]) -> tuple[mx.array, mx.array]:
        """ids int32 [B,L], mask int32 [B,L]. A row whose text is empty is the null text: its mask is 0 throughout."""
        rows = [self._encode(text) for text in texts]
        longest = max(len(row) for row in rows)
        ids = np.zeros((len(rows), longest), dtype=np.int32)
        mask = np.zeros_like(ids)
        for i, (text, row) in enumerate(zip(texts, rows)):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = bool(text)
        return mx.array(ids), mx.array(mask)


def _encoder(folder: Path) -> Callable[[str], list[int]]:
    if (folder / "tokenizer.json").exists():
        from tokenizers import Tokenizer as Fast

        try:
            fast = Fast.from_file(str(folder / "tokenizer.json"))
        except Exception as e:  # the library raises bare Exception
            raise UserError(f"{folder / 'tokenizer.json'} is not a tokenizer: {e}") from e
        fast.no_padding()
        fast.no_truncation()
        return lambda text: list(fast.encode(text).ids)
    if (folder / "spiece.model").exists():
        from transformers import T5Tokenizer

        slow = T5Tokenizer.from_pretrained(str(folder))
        return lambda text: list(slow(text).input_ids)
    raise UserError(f"{folder} has neither tokenizer.json nor spiece.model; give a complete T5 folder")


class T5Encoder:
    """The encoder stack; holds its weights while it lives."""

    def __init__(self, folder: Path, ops: Ops) -> None:
        config = _config(folder)
        self.ops = ops
        self.layers, self.heads = int(config["num_layers"]), int(config["num_heads"])
        self.buckets = int(config.get("relative_attention_num_buckets", 32))
        self.max_distance = int(config.get("relative_attention_max_distance", 128))
        self.eps = float(config.get("layer_norm_epsilon", 1e-6))
        self.dim = int(config["d_model"])
        self._w = _weights(folder, self.layers, config)

    def __call__(self, ids: mx.array, mask: mx.array) -> mx.array:
        """ids, mask int32 [B,L] -> last hidden state float32 [B,L,dim]. Masked positions hold no meaning."""
        x = self._w["shared.weight"][ids]
        bias = self._position_bias(ids.shape[1]) + mx.where(mask[:, None, None] > 0, 0.0, MASKED)
        for i in range(self.layers):
            name = f"encoder.block.{i}.layer"
            x = self._attention(x, bias, f"{name}.0")
            x = self._feed_forward(x, f"{name}.1")
        return self._norm(x, "encoder.final_layer_norm")

    def _norm(self, x: mx.array, name: str) -> mx.array:
        return mx.fast.rms_norm(x, self._w[f"{name}.weight"], self.eps)

    def _attention(self, x: mx.array, bias: mx.array, name: str) -> mx.array:
        h = self._norm(x, f"{name}.layer_norm")
        rows, steps = x.shape[:2]
        q, k, v = (
            self.ops.linear(h, self._w[f"{name}.SelfAttention.{p}.weight"])
            .reshape(rows, steps, self.heads, -1)
            .transpose(0, 2, 1, 3)
            for p in "qkv"
        )
        out = self.ops.attention(q, k, v, scale=1.0, mask=bias).transpose(0, 2, 1, 3).reshape(rows, steps, -1)
        return self.ops.linear(out, self._w[f"{name}.SelfAttention.o.weight"], residual=x)

    def _feed_forward(self, x: mx.array, name: str) -> mx.array:
        h = self.ops.linear(self._norm(x, f"{name}.layer_norm"), self._w[f"{name}.DenseReluDense.wi.weight"])
        return self.ops.linear(mx.maximum(h, 0), self._w[f"{name}.DenseReluDense.wo.weight"], residual=x)

    def _position_bias(self, steps: int) -> mx.array:
        """The learned bias of each relative position's bucket, float32 [1,H,L,L]."""
        position = np.arange(steps)
        buckets = relative_buckets(position[None] - position[:, None], self.buckets, self.max_distance)
        table = self._w["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        return table[mx.array(buckets)].transpose(2, 0, 1)[None]


def relative_buckets(distance: npt.NDArray[np.int64], buckets: int, max_distance: int) -> npt.NDArray[np.int32]:
    """Bucket of key minus query position: half for each sign, exact when near, logarithmic up to `max_distance`."""
    half = buckets // 2
    near = half // 2
    size = np.abs(distance)
    # The logarithm in float32, as torch takes it: at a bucket's edge float64 could land on the other side.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(near))
    ratio = ratio / np.float32(math.log(max_distance / near))
    far = np.minimum(near + (ratio * np.float32(half - near)).astype(np.int64), half - 1)
    buckets_of = np.where(distance > 0, half, 0) + np.where(size < near, size, far)
    return np.asarray(buckets_of, dtype=np.int32)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        assert isinstance(config, dict)
    except (OSError, ValueError, AssertionError) as e:
        raise UserError(f"cannot read T5's configuration {path}: {e}") from e
    for key in ("num_layers", "num_heads", "d_model", "d_kv", "d_ff", "vocab_size"):
        if not isinstance(config.get(key), int) or config[key] < 1:
            raise UserError(f"{path}: {key} is {config.get(key)!r}; it must be a positive integer")
    kind = config.get("feed_forward_proj", "relu")
    if kind != "relu":
        raise UserError(f"{path}: feed_forward_proj is {kind!r}; only T5 v1.0 ('relu'), as t5-base is, can be used")
    return config


def _weights(folder: Path, layers: int, config: dict[str, Any]) -> dict[str, mx.array]:
    """The encoder's tensors, float32, checked against the configuration; the decoder's, if there, are never read."""
    path = folder / "model.safetensors"
    try:
        tensors = mx.load(str(path))
    except (RuntimeError, ValueError, OSError) as e:
        raise UserError(f"cannot read T5's weights {path}: {e}") from e
    assert isinstance(tensors, dict)
    if "shared.weight" not in tensors and "encoder.embed_tokens.weight" in tensors:
        tensors["shared.weight"] = tensors["encoder.embed_tokens.weight"]
    shapes = _shapes(layers, config)
    wrong = [f"{n} {tensors[n].shape if n in tensors else 'missing'} (needs {s})" for n, s in shapes.items()
             if n not in tensors or tensors[n].shape != s]
    if wrong:
        raise UserError(f"{path} does not fit its config.json: {'; '.join(wrong[:20])}")
    weights = {name: tensors[name].astype(mx.float32) for name in shapes}
    mx.eval(weights)
    return weights


def _shapes(layers: int, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    dim, inner, ffn, heads, buckets, vocab = (
        int(config.get(k, 32))
        for k in ("d_model", "d_kv", "d_ff", "num_heads", "relative_attention_num_buckets", "vocab_size")
    )
    inner *= heads
    shapes: dict[str, tuple[int, ...]] = {
        "shared.weight": (vocab, dim),
        "encoder.final_layer_norm.weight": (dim,),
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (buckets, heads),
    }
    for i in range(layers):
        name = f"encoder.block.{i}.layer"
        for p in "qkv":
            shapes[f"{name}.0.SelfAttention.{p}.weight"] = (inner, dim)
        shapes[f"{name}.0.SelfAttention.o.weight"] = (dim, inner)
        shapes[f"{name}.1.DenseReluDense.wi.weight"] = (ffn, dim)
        shapes[f"{name}.1.DenseReluDense.wo.weight"] = (dim, ffn)
        shapes[f"{name}.0.layer_norm.weight"] = shapes[f"{name}.1.layer_norm.weight"] = (dim,)
    return shapes
