"""Features of C++ that Metal lacks, found in the text (Metal Shading Language Specification 3.1, section 1.5.4)."""

from __future__ import annotations

import re

from ..frontend.tokens import Token, next_solid, tokenize
from .recursion import recursive

_WORDS = {
    "double": "Metal has no double; use float",
    "throw": "Metal has no exceptions",
    "try": "Metal has no exceptions",
    "catch": "Metal has no exceptions",
    "new": "Metal has no new and delete",
    "delete": "Metal has no new and delete",
    "goto": "Metal has no goto",
    "virtual": "Metal has no virtual functions",
    "dynamic_cast": "Metal has no dynamic_cast",
    "typeid": "Metal has no type identification",
    "thread_local": "Metal has no thread_local",
    "asm": "Metal has no inline assembly",
    "printf": "Metal has no printf",
    "malloc": "Metal has no malloc",
}
_LONG_DOUBLE = re.compile(r"(\d+\.\d*|\.\d+|\d+[eE][-+]?\d+|\d+\.\d*[eE][-+]?\d+|\.\d+[eE][-+]?\d+)[lL]")
_ENDS_OPERAND = {")", "]"}
_NOT_OPERANDS = {"return", "case", "else", "do"}


def banned(text: str, *, body: bool = False) -> list[tuple[int, str]]:
    """Return (line, what is wrong) for each use of a feature that Metal lacks.

    `body`: the text is inside a function.
    """
    found, line = [], 1
    tokens = tokenize(text)
    for i, token in enumerate(tokens):
        if token.kind == "word":
            message = _wrong(tokens, i) or (_static(tokens, i) if body else None)
        elif token.kind == "number" and _LONG_DOUBLE.fullmatch(token.text):
            message = "Metal has no long double; use float"
        elif token.text == "[" and _lambda(tokens, i):
            message = "Metal has no lambda expressions before Metal 4; write a function"
        else:
            message = None
        if message:
            found.append((line, f"`{token.text}`: {message}"))
        if token.kind == "directive" and "#include" in token.text.replace(" ", ""):
            name = token.text.partition("include")[2].strip()
            if name.startswith("<") and not name.startswith("<metal") and not name.startswith("<simd/"):
                found.append((line, f"`{name}`: Metal has only <metal_...> headers"))
        line += token.text.count("\n")
    for at, name in recursive(tokens):
        found.append((at, f"`{name}` calls itself: Metal has no recursion before Metal 2.4; use a loop"))
    return found


def _wrong(tokens: list[Token], i: int) -> str | None:
    word = tokens[i].text
    after = next_solid(tokens, i + 1)
    following = tokens[after].text if after < len(tokens) else ""
    if word == "std" and following == "::":
        return "Metal has no std; use metal"
    if word == "long" and following == "long":
        return "Metal has no long long; long has 64 bits"
    if word == "delete" and i > 1 and following in (";", ","):
        return None if _before(tokens, i) == "=" else _WORDS[word]  # a deleted function
    return _WORDS.get(word)


def _before(tokens: list[Token], i: int) -> str:
    """Return the token before token `i`."""
    return next((t.text for t in reversed(tokens[:i]) if t.kind not in ("space", "directive")), "")


def _lambda(tokens: list[Token], i: int) -> bool:
    """Return whether the `[` at `i` introduces a lambda: it then follows no operand and is no attribute."""
    before = _before(tokens, i)
    if before in _ENDS_OPERAND or before == "[" or (re.match(r"\w", before) and before not in _NOT_OPERANDS):
        return False
    end = next((j for j in range(i, len(tokens)) if tokens[j].text == "]"), len(tokens))
    after = next_solid(tokens, end + 1)
    return after < len(tokens) and tokens[after].text in ("(", "{") and tokens[next_solid(tokens, i + 1)].text != "["


def _static(tokens: list[Token], i: int) -> str | None:
    """Return whether this is a static variable of a function; a local struct may have static members."""
    if tokens[i].text != "static":
        return None
    words: list[str] = []
    for token in tokens[i + 1 :]:
        if token.text in ("=", ";", "(", "{"):
            break
        words.append(token.text)
    depth = 0
    for j in range(i - 1, -1, -1):  # is the innermost open brace a struct's?
        depth += {"{": -1, "}": 1}.get(tokens[j].text, 0)
        if depth < 0:
            head = [t.text for t in tokens[max(0, j - 8) : j]]
            if "struct" in head or "class" in head or "union" in head:
                return None
            break
    allowed = {"constant", "constexpr"} & set(words)
    return None if allowed else "Metal has no static variables in functions, but `static constant` ones"
