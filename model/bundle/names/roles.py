"""What the words of one name say: the role that its tensor plays, or whose tensor it is instead.

Only a name whose every word is in keeping with a role gets it: an unknown word, or one of another role, leaves the
tensor over rather than guessing.
"""

from __future__ import annotations

from dataclasses import dataclass

from .words import Spelling

LAYERED = ("attention", "ffn", "norm")
"""Roles of a layer's own tensors."""
STACKS = ("emb", "linears", "merge", "gate", "position")
"""Roles of which a model has several, one after another: stored apart or as one."""

ALLOWED = {
    "attention": "attn self cross encoder decoder context text cond q k v out in proj linear layer head",
    "ffn": "ffn linear proj up down in out first second final layer",
    "norm": "norm layer self cross attn encoder decoder context text cond ffn linear in out first second third final "
    "post",
    "gate": "gate adapter layer attn self cross cond encoder",
    "position": "pos emb adapter layer cond encoder decoder token",
    "merge": "merge linear proj adapter layer cond encoder in token",
    "emb": "emb token layer decoder in audio",
    "linears": "head linear proj out token layer decoder audio",
    "out_norm": "norm layer out final post decoder",
    "text": "text cond encoder decoder context proj linear out t5 emb layer up",
}
WORDS = {role: frozenset(words.split()) for role, words in ALLOWED.items()}


@dataclass(frozen=True)
class Claim:
    """A tensor's role as its name tells it."""

    role: str
    part: str
    index: int | None = None
    """Which of several: the layer of a layer's tensor, the codebook of an embedding. None: all of them, or the one."""
    local: tuple[str | int, ...] = ()
    """Words and numbers behind the layer's number."""
    adapter: bool = False
    """Whether the name says that it belongs to the adapter."""


def claim(spelling: Spelling) -> Claim | None:
    """Return the role of a tensor, or None where its name tells none."""
    tokens, words = spelling.tokens, spelling.words
    place = _layer_number(tokens)
    if place is not None:
        before, local = tokens[:place], tokens[place + 1 :]
        role = _several(words)
        numbered = any(isinstance(token, int) for token in local)
        if role is None or (role == "merge" and "merge" not in words and numbered):  # the adapter's copy of a layer
            role = _layered(local)
        if role is None:
            return None
        if role in STACKS and not WORDS[role] | {"decoder"} >= words:
            return None
        if role in LAYERED and not WORDS[role] >= frozenset(t for t in local if isinstance(t, str)):
            return None
        index = tokens[place]
        assert isinstance(index, int)
        return Claim(role, spelling.part, index, local, "adapter" in before)
    role = _several(words)
    local = _behind_layer(tokens)
    if role is None and (stacked := _layered(local)) and frozenset(local) - {"norm", "out", "final"}:
        fits = WORDS[stacked] >= frozenset(t for t in local if isinstance(t, str))
        return Claim(stacked, spelling.part, None, local, "adapter" in words) if fits else None
    role = role or _single(words, spelling.numbers)
    if role is None or not WORDS[role] >= words:
        return None
    numbers = spelling.numbers
    if len(numbers) > 1 or (numbers and role not in STACKS and numbers != (0,)):
        return None
    return Claim(role, spelling.part, numbers[0] if numbers and role in STACKS else None, (), "adapter" in words)


def foreign(spelling: Spelling) -> str | None:
    """Say whose tensor it is, if not the language model's or the adapter's: that part's own files hold it."""
    tokens = spelling.tokens
    for i, token in enumerate(tokens):
        rest = frozenset(t for t in tokens[i + 1 :] if isinstance(t, str))
        pair = tokens[i : i + 2]
        if token == "codec" or pair == ("audio", "encoder"):
            return None if rest & {"proj", "decoder"} else "the codec's"
        if token == "t5" or pair == ("text", "encoder"):
            projected = rest & {"proj", "linear", "out"} and rest <= WORDS["text"]
            return None if projected else "T5's"
        if token == "sinusoid":
            return "computed, not learned"
    return None


def _layer_number(tokens: tuple[str | int, ...]) -> int | None:
    """Find the number of the layer: behind a word for layers, else the first number with words behind it."""
    numbers = [i for i, token in enumerate(tokens) if isinstance(token, int)]
    for i in numbers:
        if i and tokens[i - 1] == "layer":
            return i
    for i in numbers:
        before = frozenset(t for t in tokens[:i] if isinstance(t, str))
        behind = [t for t in tokens[i + 1 :] if isinstance(t, str)]
        if behind and not before & {"norm", "linear", "attn", "ffn"}:
            return i
    return None


def _behind_layer(tokens: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return what follows the word for layers in names that hold all layers at once."""
    return tokens[tokens.index("layer") + 1 :] if "layer" in tokens else ()


def _several(words: frozenset[str]) -> str | None:
    """Return the role of which there are several outside the layers, told by a word that only it has."""
    if "pos" in words:
        return "position"
    if "gate" in words and "ffn" not in words:
        return "gate"
    if "merge" in words:
        return "merge"
    layered = words & {"attn", "norm", "ffn", "q", "k", "v"}
    if "adapter" in words and not layered and words & {"linear", "proj"}:
        return "merge"
    if not layered and not words & {"text", "cond", "t5", "context"}:
        if "emb" in words:
            return "emb"
        if "head" in words:
            return "linears"
    return None


def _layered(local: tuple[str | int, ...]) -> str | None:
    """Return the role within a layer."""
    words = frozenset(token for token in local if isinstance(token, str))
    if "norm" in words:
        return "norm"
    if words & {"attn", "q", "k", "v"} or ("cross" in words or "self" in words):
        return "attention"
    if words & {"ffn", "linear", "up", "down"}:
        return "ffn"
    if words & {"in", "out", "proj"}:
        return "attention"
    return None


def _single(words: frozenset[str], numbers: tuple[int, ...]) -> str | None:
    """Return the role outside the layers that no word of its own tells."""
    if "norm" in words:
        return None if words & {"text", "cond", "context", "adapter", "emb"} else "out_norm"
    projected = words & {"proj", "linear", "out"}
    if projected and "audio" not in words and words & {"text", "cond", "t5", "context", "encoder"}:
        return "text"
    if "linear" in words or (projected and (numbers or words >= {"proj", "token"})):
        return "linears"
    return None
