"""The T5 encoder that reads the instruction, and its tokenizer.

T5 (arXiv 1910.10683), Hugging Face's weights: RMS norm without a bias, no scaling of scores, relative position buckets
shared by all layers, ReLU feed-forward. Always float32: T5's activations overflow float16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from reference.contract import Ops

from ..errors import UserError
from ..formats.safetensors_file import FLOATS, Shapes, lazy, read_header, read_json
from ..formats.settings import SettingsReader
from .projection import Projection

MAPS = (*(f"SelfAttention.{p}" for p in "qkvo"), "DenseReluDense.wi", "DenseReluDense.wo")
"""The linear maps of a block."""
MASKED = -1e9
"""Added to the score of a padded position; exp of it is exactly 0 in float32."""
MAX_LAYERS = 1000
MAX_TOKENS = 4096
"""T5 was trained on 512; its attention takes memory with the square of the tokens."""


class Tokenizer:
    """Text to token ids, each row ending with eos, padded to the longest row."""

    def __init__(self, folder: Path) -> None:
        config = T5Config.of(folder)
        self._folder, self._vocab = folder, config.vocab
        self._encode = _encoder(folder, config.eos)
        if self._encode("") != [config.eos]:
            raise UserError(
                f"{folder}: its tokenizer makes {self._encode('')[:9]} of an empty text where T5's makes "
                f"[{config.eos}], the end of the sentence; put T5's own tokenizer.json or spiece.model there"
            )

    def __call__(self, texts: Sequence[str]) -> tuple[mx.array, mx.array]:
        """Return ids int32 [B,L] and mask int32 [B,L]; an empty text is the null text, whose mask is all 0.

        Raises UserError if a text has more than `MAX_TOKENS` tokens.
        """
        rows = [self._encode(text) for text in texts]
        longest = max(len(row) for row in rows)
        if longest > MAX_TOKENS:
            raise UserError(f"the instruction has {longest} tokens; at most {MAX_TOKENS} are taken; shorten it")
        ids = np.zeros((len(rows), longest), dtype=np.int32)
        mask = np.zeros_like(ids)
        for i, (text, row) in enumerate(zip(texts, rows)):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = bool(text)
        if (largest := int(ids.max())) >= self._vocab:
            raise UserError(
                f"{self._folder}: its tokenizer gives token {largest}, and its weights have {self._vocab}; "
                "take both from the same T5"
            )
        return mx.array(ids), mx.array(mask)


def _encoder(folder: Path, eos: int) -> Callable[[str], list[int]]:
    for name, reader in (("tokenizer.json", _fast), ("spiece.model", _sentencepiece)):
        if (folder / name).exists():
            try:
                return reader(folder, eos)
            except Exception as e:  # the libraries raise bare Exception, RuntimeError, TypeError, ...
                reason = str(e).strip().partition("\n")[0][:200] or type(e).__name__
                raise UserError(f"{folder / name} is not a tokenizer that can be read: {reason}") from e
    raise UserError(f"{folder} has neither tokenizer.json nor spiece.model; give a complete T5 folder")


def _fast(folder: Path, _: int) -> Callable[[str], list[int]]:
    from tokenizers import Tokenizer as Fast

    fast = Fast.from_file(str(folder / "tokenizer.json"))
    fast.no_padding()
    fast.no_truncation()  # the file itself says to append eos; Tokenizer checks it
    return lambda text: list(fast.encode(text).ids)


def _sentencepiece(folder: Path, eos: int) -> Callable[[str], list[int]]:
    from sentencepiece import SentencePieceProcessor

    path = folder / "spiece.model"
    if not path.stat().st_size:  # the library takes it for no model given, and fails later
        raise ValueError("it is empty")
    pieces = SentencePieceProcessor(model_file=str(path))
    return lambda text: [*pieces.encode(text), eos]


class T5Encoder:
    """The encoder stack; holds its weights while it lives."""

    def __init__(self, folder: Path, ops: Ops) -> None:
        self.config, self._attend = T5Config.of(folder), ops.attention
        self._w = _weights(folder, self.config)
        maps = [name for name in self._w if name.rpartition(".")[0].endswith(MAPS)]
        self._maps = {name.removesuffix(".weight"): Projection(ops, self._w.pop(name)) for name in maps}

    def __call__(self, ids: mx.array, mask: mx.array) -> mx.array:
        """Return the last hidden state float32 [B,L,dim] of ids, mask int32 [B,L]; masked positions hold no meaning."""
        x = self._w["shared.weight"][ids]
        bias = self._position_bias(ids.shape[1]) + mx.where(mask[:, None, None] > 0, 0.0, MASKED)
        for i in range(self.config.layers):
            name = f"encoder.block.{i}.layer"
            x = self._attention(x, bias, f"{name}.0")
            x = self._feed_forward(x, f"{name}.1")
        return self._norm(x, "encoder.final_layer_norm")

    def _norm(self, x: mx.array, name: str) -> mx.array:
        return mx.fast.rms_norm(x, self._w[f"{name}.weight"], self.config.eps)

    def _attention(self, x: mx.array, bias: mx.array, name: str) -> mx.array:
        h = self._norm(x, f"{name}.layer_norm")
        rows, steps = x.shape[:2]
        q, k, v = (
            self._maps[f"{name}.SelfAttention.{p}"](h).reshape(rows, steps, self.config.heads, -1).transpose(0, 2, 1, 3)
            for p in "qkv"
        )
        out = self._attend(q, k, v, scale=1.0, mask=bias).transpose(0, 2, 1, 3).reshape(rows, steps, -1)
        return self._maps[f"{name}.SelfAttention.o"](out, residual=x)

    def _feed_forward(self, x: mx.array, name: str) -> mx.array:
        h = self._maps[f"{name}.DenseReluDense.wi"](self._norm(x, f"{name}.layer_norm"))
        return self._maps[f"{name}.DenseReluDense.wo"](mx.maximum(h, 0), residual=x)

    def _position_bias(self, steps: int) -> mx.array:
        """Return the learned bias of each relative position's bucket, float32 [1,H,L,L]."""
        position = np.arange(steps)
        buckets = relative_buckets(position[None] - position[:, None], self.config.buckets, self.config.max_distance)
        table = self._w["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        return table[mx.array(buckets)].transpose(2, 0, 1)[None]


def relative_buckets(distance: npt.NDArray[np.int64], buckets: int, max_distance: int) -> npt.NDArray[np.int32]:
    """Return the bucket of each distance (key minus query position).

    Half of them for each sign, exact when near, logarithmic up to `max_distance`.
    """
    half = buckets // 2
    near = half // 2
    size = np.abs(distance)
    # The logarithm in float32, as torch takes it: at a bucket's edge float64 could land on the other side.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(near))
    ratio = ratio / np.float32(math.log(max_distance / near))
    far = np.minimum(near + (ratio * np.float32(half - near)).astype(np.int64), half - 1)
    buckets_of = np.where(distance > 0, half, 0) + np.where(size < near, size, far)
    return np.asarray(buckets_of, dtype=np.int32)


@dataclass(frozen=True)
class T5Config:
    """T5's encoder as its folder's config.json has it."""

    dim: int
    head_dim: int
    heads: int
    ffn: int
    layers: int
    vocab: int
    buckets: int
    max_distance: int
    eps: float
    eos: int

    @classmethod
    def of(cls, folder: Path) -> T5Config:
        """Read a folder's config.json. Raises UserError for a value that cannot be, or another kind of T5."""
        path = folder / "config.json"
        xp = SettingsReader(read_json(path), path)
        xp.require("feed_forward_proj", "relu")  # T5 v1.0, as t5-base is; v1.1 has gates
        config = cls(
            dim=xp.integer("d_model"),
            head_dim=xp.integer("d_kv"),
            heads=xp.integer("num_heads"),
            ffn=xp.integer("d_ff"),
            layers=xp.integer("num_layers", most=MAX_LAYERS),
            vocab=xp.integer("vocab_size", most=1 << 24),
            buckets=xp.integer("relative_attention_num_buckets", 32, least=4),
            max_distance=xp.integer("relative_attention_max_distance", 128),
            eps=xp.number("layer_norm_epsilon", 1e-6),
            eos=xp.integer("eos_token_id", 1, least=0),
        )
        if config.max_distance <= config.buckets // 4:
            raise UserError(
                f"{path}: relative_attention_max_distance is {config.max_distance}; it must be more than a quarter of "
                f"the {config.buckets} buckets"
            )
        return config


def _weights(folder: Path, config: T5Config) -> dict[str, mx.array]:
    """Return the encoder's tensors, float32, checked against the configuration.

    The decoder's, if there, are never read.
    """
    path = folder / "model.safetensors"
    header, shared = read_header(path), "shared.weight"
    shapes = tensor_shapes(
        dim=config.dim, head_dim=config.head_dim, heads=config.heads, ffn=config.ffn, layers=config.layers,
        vocab=config.vocab, buckets=config.buckets,
    )  # fmt: skip
    stored = {name: name for name in shapes}
    if shared not in header:
        stored[shared] = "encoder.embed_tokens.weight"
    wrong = []
    for name, shape in shapes.items():
        if stored[name] not in header:
            wrong.append(f"{name} missing (needs {list(shape)} floats)")
            continue
        dtype, found = header[stored[name]]
        if dtype not in FLOATS or found != shape:
            wrong.append(f"{name} {list(found)} {str(dtype).rpartition('.')[2]} (needs {list(shape)} floats)")
    if wrong:
        raise UserError(f"{path} does not fit its config.json: {'; '.join(wrong[:20])}; take both from the same T5")
    tensors = lazy(path)
    weights = {name: tensors[stored[name]].astype(mx.float32) for name in stored}
    mx.eval(weights)
    return weights


def tensor_shapes(*, dim: int, head_dim: int, heads: int, ffn: int, layers: int, vocab: int, buckets: int) -> Shapes:
    """Return every tensor of an encoder by Hugging Face's name, in the order of its layers."""
    inner = heads * head_dim
    shapes: Shapes = {"shared.weight": (vocab, dim)}
    for i in range(layers):
        attention, feed_forward = (f"encoder.block.{i}.layer.{n}" for n in (0, 1))
        for p in "qkv":
            shapes[f"{attention}.SelfAttention.{p}.weight"] = (inner, dim)
        shapes[f"{attention}.SelfAttention.o.weight"] = (dim, inner)
        if i == 0:
            shapes[f"{attention}.SelfAttention.relative_attention_bias.weight"] = (buckets, heads)
        shapes[f"{attention}.layer_norm.weight"] = (dim,)
        shapes[f"{feed_forward}.DenseReluDense.wi.weight"] = (ffn, dim)
        shapes[f"{feed_forward}.DenseReluDense.wo.weight"] = (dim, ffn)
        shapes[f"{feed_forward}.layer_norm.weight"] = (dim,)
    shapes["encoder.final_layer_norm.weight"] = (dim,)
    return shapes
