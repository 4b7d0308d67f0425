"""Functions that call themselves, found in the text."""

from __future__ import annotations

import re

from ..frontend.tokens import Token

_CONTROL = {"if", "for", "while", "switch", "return", "sizeof", "alignof", "alignas", "decltype", "static_assert"}


def recursive(tokens: list[Token]) -> list[tuple[int, str]]:
    """Return (line, name) of each function that calls itself, directly or through others.

    Only names that are defined once and are not templates count: overloads and instances of one name may well call each
    other.
    """
    solid: list[tuple[str, int]] = []
    line = 1
    for token in tokens:
        if token.kind not in ("space", "directive"):
            solid.append((token.text, line))
        line += token.text.count("\n")
    words = [text for text, _ in solid]
    definitions: dict[str, list[tuple[int, int, int]]] = {}
    for i in range(len(words) - 1):
        if words[i + 1] == "(" and re.match(r"[A-Za-z_]", words[i]) and words[i] not in _CONTROL:
            body = _body(words, i + 1)
            if body:
                definitions.setdefault(words[i], []).append((i, *body))
    once = {name: where[0] for name, where in definitions.items() if len(where) == 1}
    once = {name: where for name, where in once.items() if not _is_template(words, where[0])}
    calls = {
        name: {w for w, after in zip(words[start:end], words[start + 1 : end + 1]) if after == "(" and w in once}
        for name, (_, start, end) in once.items()
    }
    return sorted((solid[once[name][0]][1], name) for name in once if name in _reached(calls, name))


def _body(words: list[str], start: int) -> tuple[int, int] | None:
    """Return the index range of a function's body, whose parameters begin at `start`; None if it has none here."""
    end = _close(words, start, "(", ")")
    while end < len(words) and words[end] in ("const", "thread", "device", "constant", "threadgroup", "noexcept"):
        end += 1
    return (end, _close(words, end, "{", "}")) if end < len(words) and words[end] == "{" else None


def _close(words: list[str], start: int, opening: str, closing: str) -> int:
    """Return the index after the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(words)):
        depth += {opening: 1, closing: -1}.get(words[i], 0)
        if depth == 0:
            return i + 1
    return len(words)


def _is_template(words: list[str], at: int) -> bool:
    """Return whether the declaration around `at`, after the last `;`, `{` or `}`, begins with `template`."""
    start = at
    while start > 0 and words[start - 1] not in (";", "{", "}"):
        start -= 1
    return "template" in words[start:at]


def _reached(calls: dict[str, set[str]], name: str) -> set[str]:
    """Return all functions that `name` calls, directly or through others."""
    found: set[str] = set()
    todo = list(calls[name])
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo += calls[current]
    return found
