"""From instructions to the condition the LM attends to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import mlx.core as mx

from ..stages import Announce, unheard
from ..system import mlx_buffers
from .projection import Weights
from .state import TextKV
from .t5 import T5Encoder, Tokenizer
from .transformer import LanguageModel


def padded(conditions: Sequence[mx.array]) -> list[mx.array]:
    """Pad conditions [1,L,dim] with zeros to the longest one's length."""
    longest = max(c.shape[1] for c in conditions)
    return [mx.pad(c, [(0, 0), (0, longest - c.shape[1]), (0, 0)]) for c in conditions]


class TextConditioner:
    """T5's hidden states, projected to the LM's dimension; padded positions and null texts are exact zeros.

    T5's encoder is loaded to read texts and freed: a text is read once for a clip, and T5 would cost a fifth of the
    memory. Its tokenizer stays.
    """

    def __init__(self, weights: Weights, folder: Callable[[], Path]) -> None:
        """Take the projection's weights; `folder` returns T5's, which may have to be fetched first."""
        name = "text_conditioner.output_proj"
        self.ops, self.folder = weights.ops, folder
        self.weight, self.bias = (weights.tensors.pop(f"{name}.{p}").astype(mx.float32) for p in ("weight", "bias"))
        mx.eval(self.weight, self.bias)
        self._tokenizer: Tokenizer | None = None
        self._loading = threading.Lock()

    @property
    def tokenizer(self) -> Tokenizer:
        """T5's tokenizer, loaded when first used."""
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = Tokenizer(self.folder())
            return self._tokenizer

    def __call__(self, texts: Sequence[str], announce: Announce = unheard) -> list[mx.array]:
        """Encode each text for itself: float32 [1,L,dim], L its number of tokens, evaluated."""
        with announce("t5 load"):
            mlx_buffers.release()  # else what an earlier edit freed stays in memory beside T5
            _, encoder = self.tokenizer, T5Encoder(self.folder(), self.ops)
        with announce("text"):
            found = [self.encode([text], encoder) for text in texts]
            mx.eval(found)
        return found

    def encode(self, texts: Sequence[str], encoder: T5Encoder) -> mx.array:
        """Encode texts as one batch: float32 [B,L,dim], L the longest text's tokens.

        Upstream encodes the null texts of guidance along with the real ones; they are one token long and come out as
        zeros, so they change neither L nor any value and are left out here. Zeros at padded positions are attended to
        (score 0): a text's result depends on the longest text of its batch, as upstream.
        """
        ids, mask = self.tokenizer(texts)
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
