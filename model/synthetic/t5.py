"""A random T5 encoder, as Hugging Face stores it, with a small tokenizer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..formats.safetensors_file import Shapes
from ..formats.tensor_writer import Layout, TensorWriter
from ..network.t5 import tensor_shapes
from .numbers import Random

BUCKETS = 32


@dataclass(frozen=True)
class T5Dims:
    """T5's encoder; the defaults are t5-base."""

    d_model: int = 768
    d_kv: int = 64
    heads: int = 12
    d_ff: int = 3072
    layers: int = 12
    vocab: int = 32128


def shapes(t5: T5Dims) -> Shapes:
    """Return the shape of every tensor of the encoder by Hugging Face's name."""
    return tensor_shapes(
        dim=t5.d_model, head_dim=t5.d_kv, heads=t5.heads, ffn=t5.d_ff, layers=t5.layers, vocab=t5.vocab, buckets=BUCKETS
    )


def write(folder: Path, t5: T5Dims, stored: Layout, seed: int, wrote: Callable[[int], None]) -> None:
    """Write config.json, model.safetensors and tokenizer.json. `wrote` is told the bytes of each tensor."""
    folder.mkdir()
    with TensorWriter(folder / "model.safetensors", stored, wrote) as writer:
        for name, (_, shape) in stored.items():
            random = Random(seed, f"t5.{name}")
            if name.endswith("norm.weight"):
                value = random.spread(0.1, shape, mean=1.0)
            elif name.endswith("bias.weight") or name == "shared.weight":
                value = random.spread(1.0, shape)
            else:
                # T5 does not scale its scores: the query map is smaller by the root of the head dimension.
                scale = shape[1] * (t5.d_kv if name.endswith(".q.weight") else 1)
                value = random.spread(1 / math.sqrt(scale), shape)
            writer.write(name, value)
    config = {
        "architectures": ["T5EncoderModel"], "model_type": "t5", "d_model": t5.d_model, "d_kv": t5.d_kv,
        "num_heads": t5.heads, "d_ff": t5.d_ff, "num_layers": t5.layers, "vocab_size": t5.vocab,
        "feed_forward_proj": "relu", "layer_norm_epsilon": 1e-6, "relative_attention_num_buckets": BUCKETS,
        "relative_attention_max_distance": 128, "pad_token_id": 0, "eos_token_id": 1, "is_encoder_decoder": True,
        "torch_dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(), ensure_ascii=False, indent=0) + "\n")


VOCABULARY = """
Music piece Instruct Only Drums drums Bass bass Guitar guitar Piano piano Vocals vocals Strings strings Synth synth Add
add Remove remove Extract extract Replace replace with and the a an of to in on only more less make it sound like louder
softer faster slower happy sad dark bright jazz rock pop classical electronic ambient acoustic heavy light melody
harmony rhythm beat solo track instrument instruments voice choir flute violin cello trumpet saxophone organ percussion
hi-hat kick snare
"""
PIECES = (
    "er", "in", "es", "on", "ar", "or", "an", "en", "al", "ic", "st", "th", "ing", "tion", "ment", "s", "ed", "ly",
)  # fmt: skip


def _tokenizer() -> dict[str, Any]:
    """Return a unigram tokenizer with T5's conventions (pad 0, eos 1, unk 2, eos appended) over a small vocabulary."""
    mark = "\u2581"
    words = [mark + word for word in VOCABULARY.split()]
    pieces = [*words, *PIECES, mark, *(chr(c) for c in range(33, 127))]
    scores = [-4.0 - 0.01 * i for i in range(len(words))] + [-6.0] * len(PIECES) + [-7.0] + [-8.0] * 94
    special = [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i, c in enumerate(("<pad>", "</s>", "<unk>"))]  # fmt: skip
    metaspace = {"type": "Metaspace", "replacement": mark, "prepend_scheme": "always", "split": True}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}, single[1]],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": 2,
            "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], *([p, s] for p, s in zip(pieces, scores))],
            "byte_fallback": False,
        },
    }
