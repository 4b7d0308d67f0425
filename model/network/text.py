"""From instructions to the condition the LM attends to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mlx.core as mx

from .projection import Weights
from .state import TextKV
from .t5 import T5Encoder, Tokenizer
from .transformer import LanguageModel


def padded(conditions: Sequence[mx.array]) -> list[mx.array]:
    """Pad conditions [1,L,dim] with zeros to the longest one's length."""
    longest = max(c.shape[1] for c in conditions)
    return [mx.pad(c, [(0, 0), (0, longest - c.shape[1]), (0, 0)]) for c in conditions]


class TextConditioner:
    """T5's hidden states, projected to the LM's dimension; padded positions and null texts are exact zeros."""

    def __init__(self, weights: Weights) -> None:
        name = "text_conditioner.output_proj"
        self.ops = weights.ops
        self.weight, self.bias = (weights.tensors.pop(f"{name}.{p}").astype(mx.float32) for p in ("weight", "bias"))
        mx.eval(self.weight, self.bias)

    def __call__(self, texts: Sequence[str], tokenizer: Tokenizer, encoder: T5Encoder) -> mx.array:
        """float32 [B,L,dim], L the longest text's tokens.

        Upstream encodes the null texts of guidance along with the real ones; they are one token long and come out as
        zeros, so they change neither L nor any value and are left out here. Zeros at padded positions are attended to
        (score 0): a text's result depends on the longest text of its batch, as upstream.
        """
        ids, mask = tokenizer(texts)
        hidden = self.ops.linear(encoder(ids, mask), self.weight, bias=self.bias)
        return mx.where(mask[..., None] > 0, hidden, mx.zeros((), dtype=hidden.dtype))


def text_kv(lm: LanguageModel, conditions: Mapping[str, mx.array], texts: Sequence[str]) -> list[TextKV]:
    """Compute every layer's keys and values of a batch's texts, of equal texts once; conditions [1,L,dim] by text."""
    found = lm.text_kv(mx.concatenate(list(conditions.values())))
    if len(conditions) == len(texts):
        return found
    place = {text: i for i, text in enumerate(conditions)}
    rows = mx.array([place[text] for text in texts])
    repeated = [TextKV(k[rows], v[rows]) for k, v in found]
    mx.eval(repeated)
    return repeated
