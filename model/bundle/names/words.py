"""A tensor's name as words of one vocabulary, however it is spelled: snake, kebab or camel case, abbreviated or not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

TOKEN = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")

SYNONYMS = {
    "layer": "layer layers block blocks blk blks resblock resblocks stack stacks h",
    "attn": "attn attns attention attentions att mha multihead",
    "self": "self",
    "cross": "cross",
    "encoder": "encoder enc",
    "decoder": "decoder dec",
    "context": "context ctx memory mem src source",
    "text": "text txt prompt caption description",
    "cond": "cond conds condition conditions conditioning conditioner conditioners",
    "q": "q query queries wq",
    "k": "k key keys wk",
    "v": "v value values val wv",
    "out": "out output outputs o wo",
    "in": "in input inputs",
    "proj": "proj projs projection projections project projector projectors",
    "linear": "linear linears lin dense fc",
    "ffn": "mlp ff ffn feed forward",
    "up": "up wi expand intermediate",
    "down": "down contract",
    "norm": "norm norms ln lns layernorm layernorms",
    "emb": "emb embs embed embeds embedder embedders embedding embeddings wte",
    "token": "tok token tokens code codes codebook codebooks vocab vocabulary",
    "audio": "audio",
    "head": "head heads logit logits classifier classifiers unembed lmhead lmheads",
    "pos": "pos position positions positional wpe",
    "gate": "gate gates gating",
    "merge": "merge merges merged merging merger mergers fuse fusion",
    "adapter": "adapter adapters cp",
    "final": "final last f",
    "post": "post",
    "first": "first pre",
    "second": "second",
    "third": "third",
    "lora": "lora",
    "t5": "t5",
    "codec": "encodec codec compression vq rvq quantizer",
    "sinusoid": "sin sinusoid sinusoidal sinusoids",
    "weight": "weight weights gamma qweight packed",
    "bias": "bias beta",
    "scales": "scale scales",
    "biases": "biases",
    # Says nothing of what a tensor is.
    "": "model models lm transformer module modules base peft orig mod backbone musicgen language main network core "
    "inner instruct mlx generator provider default multi shared c to w scalar param parameter parameters table "
    "tables relu gelu act net prefix zero factor factors vector learned "
    "learnable content",
}
"""Concepts, and the words for each."""
COMPOUNDS = {
    "qkv": "q k v", "wqkv": "q k v", "kv": "k v", "wkv": "k v", "xattn": "cross attn", "xa": "cross attn",
    "sa": "self attn", "ca": "cross attn",
}  # fmt: skip

CONCEPTS: dict[str, tuple[str, ...]] = {
    word: (concept,) for concept, words in SYNONYMS.items() for word in words.split()
}
CONCEPTS |= {word: tuple(concepts.split()) for word, concepts in COMPOUNDS.items()}
LONG = sorted((word for word in CONCEPTS if len(word) > 1), key=len, reverse=True)
LETTERS = ("q", "k", "v", "o")

PARTS = ("weight", "bias", "scales", "biases")
UNKNOWN = "?"
"""Stands for a word outside the vocabulary."""


@dataclass(frozen=True)
class Spelling:
    """A stored name, read."""

    tokens: tuple[str | int, ...]
    """Concepts and numbers in their order, `part` left out; words that say nothing are left out too."""
    part: str
    """`weight`, `bias`, `scales`, `biases`, or nothing."""

    @property
    def words(self) -> frozenset[str]:
        """The concepts in the name, without its numbers."""
        return frozenset(token for token in self.tokens if isinstance(token, str))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers in their order."""
        return tuple(token for token in self.tokens if isinstance(token, int))


@lru_cache(maxsize=1 << 16)
def spell(name: str, shared: frozenset[str] = frozenset()) -> Spelling:
    """Read a name. `shared`: unknown words that most names have, and that therefore tell nothing."""
    tokens: list[str | int] = []
    for raw in split(name):
        if raw.isdigit():
            tokens.append(int(raw[:9]))
        elif raw not in shared:
            tokens += [concept for concept in concepts(raw) if concept]
    part = ""
    number = tokens.pop() if len(tokens) > 1 and isinstance(tokens[-1], int) and tokens[-2] in PARTS else None
    while tokens and tokens[-1] in PARTS:
        part = part if part in ("scales", "biases") else str(tokens[-1])
        tokens.pop()
    return Spelling((*tokens, *(() if number is None else (number,))), part)


def split(name: str) -> list[str]:
    """Return the lower-case words and the numbers of a name."""
    words = [word.lower() for word in TOKEN.findall(name)]
    joined: list[str] = []
    for word in words:
        if word == "5" and joined and joined[-1] == "t":
            joined[-1] = "t5"
        else:
            joined.append(word)
    return joined


@lru_cache(maxsize=1 << 16)
def parts(name: str) -> tuple[str, ...]:
    """Return the concepts and numbers of a name, unknown words as they are: equal for spellings of one name."""
    return tuple(
        word if concept == UNKNOWN else concept for word in split(name) for concept in _parts_of(word) if concept
    )


def _parts_of(word: str) -> tuple[str, ...]:
    return (word,) if word.isdigit() else concepts(word)


@lru_cache(maxsize=1 << 12)
def concepts(word: str) -> tuple[str, ...]:
    """Return what a word stands for.

    Several words run together (`selfattn`) stand for several things, an unknown word for UNKNOWN.
    """
    if word in CONCEPTS:
        return CONCEPTS[word]
    return _parted(word) or (UNKNOWN,)


def _parted(word: str) -> tuple[str, ...]:
    """Return the concepts of words run together; a letter counts only beside a word (`qproj`)."""
    if not 4 <= len(word) <= 40:
        return ()
    for known in LONG:
        if len(known) > 2 and word.startswith(known):
            rest = word[len(known) :]
            if tail := CONCEPTS.get(rest) or _parted(rest):
                return CONCEPTS[known] + tail
    if word[0] in LETTERS and word[1:] in CONCEPTS and len(word) > 4:
        return CONCEPTS[word[0]] + CONCEPTS[word[1:]]
    if word.startswith("cp") and (tail := CONCEPTS.get(word[2:]) or _parted(word[2:])):
        return CONCEPTS["cp"] + tail
    return ()
