"""Section 2: text to the vectors that cross-attention sees."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import sentencepiece

from .files import Upstream
from .numbers import Array, heads, joined, softmax


def tokens(up: Upstream, texts: Sequence[str]) -> tuple[Array, Array]:
    """Ids and mask [B,L] of texts tokenized together, each with its eos; the mask of an empty text is all zeros."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(up.t5_folder / "spiece.model"))
    rows = [[*pieces.encode(text), 1] for text in texts]
    length = max(map(len, rows))
    ids = np.array([row + [0] * (length - len(row)) for row in rows])
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    mask[[text == "" for text in texts]] = 0
    return ids, mask


def condition(up: Upstream, texts: Sequence[str]) -> Array:
    """[B,L,D]; padded positions and null rows are zeros, the bias too."""
    ids, mask = tokens(up, texts)
    projected = t5(up, ids, mask) @ up.lm["output_proj.weight"].T + up.lm["output_proj.bias"]
    return np.asarray(projected * mask[..., None])


def t5(up: Upstream, ids: Array, mask: Array) -> Array:
    """The encoder's last hidden state [B,L,d_model]."""
    w, config = up.t5, up.t5_config
    length, count = ids.shape[1], config["num_heads"]
    table = w.get("shared.weight", w.get("encoder.embed_tokens.weight"))
    assert table is not None
    x = table[ids]
    bias = w["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"][buckets(length, config)]
    # As upstream: a finite minimum, so a row with nothing to see sees every position alike.
    hidden = np.where(mask == 0, float(np.finfo(np.float32).min), 0.0)[:, None, None, :]
    for i in range(config["num_layers"]):
        block = f"encoder.block.{i}.layer"
        y = rms_norm(x, w[f"{block}.0.layer_norm.weight"], config)
        q, k, v = (heads(y @ w[f"{block}.0.SelfAttention.{n}.weight"].T, count) for n in "qkv")
        a = softmax(q @ k.swapaxes(-1, -2) + (bias.transpose(2, 0, 1) + hidden)) @ v
        x = x + joined(a) @ w[f"{block}.0.SelfAttention.o.weight"].T
        y = rms_norm(x, w[f"{block}.1.layer_norm.weight"], config)
        y = np.maximum(y @ w[f"{block}.1.DenseReluDense.wi.weight"].T, 0)
        x = x + y @ w[f"{block}.1.DenseReluDense.wo.weight"].T
    return rms_norm(x, w["encoder.final_layer_norm.weight"], config)


def rms_norm(x: Array, weight: Array, config: dict[str, float]) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + config["layer_norm_epsilon"]) * weight)


def buckets(length: int, config: dict[str, int]) -> Array:
    """Bidirectional relative position buckets [query, key]: half exact, half logarithmic, for each sign."""
    half = config["relative_attention_num_buckets"] // 2
    exact = half // 2
    offset = np.arange(length)[None, :] - np.arange(length)[:, None]
    distance = np.abs(offset)
    # float32 as upstream: at distances on a bucket's edge the last bit decides.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    scaled = ratio / np.float32(math.log(config["relative_attention_max_distance"] / exact)) * np.float32(half - exact)
    far = np.minimum(exact + scaled.astype(np.int64), half - 1)
    return np.asarray(np.where(offset > 0, half, 0) + np.where(distance < exact, distance, far))
