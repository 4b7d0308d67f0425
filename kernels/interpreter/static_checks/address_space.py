"""Pointers and references without an address space: C++ doesn't need one, Metal refuses them (its specification, 4)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..frontend.tokens import Token, tokenize

_SPACES = {"device", "constant", "thread", "threadgroup", "threadgroup_imageblock", "ray_data", "object_data"}
_NUMBERS = "bool|char|uchar|short|ushort|int|uint|long|ulong|half|bfloat|float"
_BUILTIN = re.compile(
    rf"(packed_)?({_NUMBERS})[234]?|u?int(8|16|32|64)_t|b?float16_t|complex64_t|size_t|ptrdiff_t|unsigned|signed|void|"
    r"atomic_(int|uint|bool|float)"
)
_TEMPLATES = {"vec", "packed_vec", "atomic", "array", "simdgroup_matrix"}
_BEFORE = {"const", "volatile", "static", "constexpr", "inline", "typename", "unsigned", "signed", "::"}
_AFTER = {"*", "&", ">", ")", ",", "const", "restrict", "__restrict"}


def missing(text: str, declared: Iterable[str] = ()) -> list[tuple[int, str]]:
    """Return (line, what is wrong) for each pointer or reference to a type by name that states no address space.

    Names known to be types count: Metal's own, `declared`, and the text's template parameters, structs and aliases.
    """
    tokens: list[tuple[Token, int]] = []
    line = 1
    for token in tokenize(text):
        if token.kind not in ("space", "directive"):
            tokens.append((token, line))
        line += token.text.count("\n")
    words = [t.text for t, _ in tokens]
    types = set(declared) | declarations(text)
    scopes: list[tuple[int, set[str]]] = []  # of template parameters: braces outside, names
    depth = 0
    found = []
    for i, (token, at) in enumerate(tokens):
        depth += {"{": 1, "}": -1}.get(token.text, 0)
        if token.text == "template" and i + 1 < len(words) and words[i + 1] == "<":
            scopes.append((depth, _parameters(words, i + 1)))
        elif token.text in ("}", ";"):
            while scopes and scopes[-1][0] >= depth:
                scopes.pop()
        if token.text not in ("*", "&") or i == 0:
            continue
        after = tokens[i + 1][0] if i + 1 < len(tokens) else None
        if after is None or not (after.kind == "word" or after.text in _AFTER):
            continue
        start = _type_start(words, i, types.union(*(names for _, names in scopes)))
        if start is not None:
            what = "pointer" if token.text == "*" else "reference"
            shown = " ".join(words[start : i + 1])
            message = f"this {what} has no address space; say device, constant, threadgroup or thread"
            found.append((at, f"`{shown}`: {message}"))
    return found


def _parameters(words: list[str], start: int) -> set[str]:
    """Return the type parameters of the template parameter list that begins at `start`."""
    names, depth = set(), 0
    for i in range(start, len(words)):
        depth += {"<": 1, ">": -1}.get(words[i], 0)
        if depth == 0:
            break
        if words[i] in ("typename", "class") and words[i + 2 : i + 3] and words[i + 2] in (",", ">", "="):
            names.add(words[i + 1])
    return names


def declarations(text: str) -> set[str]:
    """Return the names of structs and aliases that the text declares."""
    words = [t.text for t in tokenize(text) if t.kind not in ("space", "directive")]
    names = set()
    for before, name, after in zip(words, words[1:], [*words[2:], ""]):
        if not (name[0].isalpha() or name[0] == "_"):
            continue
        if (before == "struct" and after in ("{", ":")) or (before == "using" and after == "="):
            names.add(name)
    return names


def _type_start(words: list[str], star: int, types: set[str]) -> int | None:
    """Return where the type before `star` starts; None if it is not a type, or has an address space."""
    i = star - 1
    while i >= 0 and words[i] in ("const", "volatile"):
        i -= 1
    if i < 0 or words[i] in _SPACES:
        return None
    if words[i] == ">":
        depth = 0
        while i >= 0:
            depth += {">": 1, "<": -1}.get(words[i], 0)
            i -= 1
            if depth == 0:
                break
        if i < 0 or words[i] not in _TEMPLATES:
            return None
    elif words[i] not in types and not _BUILTIN.fullmatch(words[i]):
        return None
    while i > 0 and words[i - 1] in _BEFORE | _SPACES:
        i -= 2 if words[i - 1] == "::" else 1  # the name before `::` too
        if words[i] in _SPACES:
            return None
    return None if i > 0 and words[i - 1] in (".", "->") else max(i, 0)  # a member (`x.half`) is no type
