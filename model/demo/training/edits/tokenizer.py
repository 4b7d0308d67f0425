"""The demo's tokenizer: a unigram model over words of instructions, with letters for everything else."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from .sentences import EVERYDAY, NAMES, SUBJECTS, UPSTREAM, sentences

MARK = "\u2581"
PAD, EOS, UNKNOWN = 0, 1, 2
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"-()&/"
MORE = """
a an the and or of to in on with from for my this that it is be me you i more less make sound like louder softer faster
slower song track music clip part parts instrument instruments solo mix mixture band only no add remove replace please
"""


def words() -> list[str]:
    """Return every word of the sentences, sorted."""
    texts = [*UPSTREAM.values(), *(text for group in EVERYDAY.values() for text in group), MORE]
    texts += [name for names in SUBJECTS for name in names] + [name for names in NAMES.values() for name in names]
    found: set[str] = set()
    for text in texts:
        found.update(re.findall(r"[a-z']+", re.sub(r"\{\w+\}", " ", text).lower()))
    return sorted(word for word in found if len(word) > 1 or word in "ai")


def definition() -> dict[str, Any]:
    """Return tokenizer.json: lower case, T5's conventions (pad 0, eos 1, unk 2, eos appended)."""
    pieces = [(MARK + word, -4.0 - 0.001 * rank) for rank, word in enumerate(words())]
    pieces += [(MARK, -7.0), *((letter, -8.0) for letter in LETTERS)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [{"id": i, "content": text, **flags} for i, text in enumerate(("<pad>", "</s>", "<unk>"))]
    metaspace = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always", "split": True}
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, end]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}, end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [EOS], "tokens": ["</s>"]}},
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": UNKNOWN,
            "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], *map(list, pieces)],
            "byte_fallback": False,
        },
    }


def vocabulary() -> int:
    """Return the number of tokens."""
    return len(definition()["model"]["vocab"])


def write(folder: Path) -> None:
    """Write tokenizer.json into a T5 folder."""
    text = json.dumps(definition(), ensure_ascii=False, indent=0)
    (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")


class Tokens:
    """Encode sentences to padded rows of ids, each ending with eos."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(json.dumps(definition()))
        self._ids = lru_cache(maxsize=None)(lambda text: list(tokenizer.encode(text).ids))

    def __call__(self, texts: list[str], length: int | None = None) -> list[list[int]]:
        """Return rows of `length` ids, or as long as the longest; shorter sentences end with padding."""
        rows = [self._ids(text) for text in texts]
        width = length or max(map(len, rows))
        return [row + [PAD] * (width - len(row)) for row in rows]


@lru_cache(maxsize=1)
def longest() -> int:
    """Return the tokens of the longest sentence that training draws."""
    return max(map(len, Tokens()(sentences())))
