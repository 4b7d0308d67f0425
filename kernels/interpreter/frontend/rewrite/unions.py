"""Unions that hold vectors, whose classes have constructors here, so that C++ does not copy such a union by itself."""

from __future__ import annotations

import re

from ..tokens import Token

_VECTOR = re.compile(r"(packed_)?(bool|u?char|u?short|u?int|u?long|half|bfloat|float)[234]|(packed_)?vec")


def copyable_unions(tokens: list[Token]) -> list[Token]:
    """Give named unions that hold vectors what Metal's have by nature: copies, and braces for the first member."""
    out: list[Token] = []
    for i, token in enumerate(tokens):
        out.append(token)
        if token.text == "{":
            head = [t.text for t in out[-6:-1] if t.kind not in ("space", "directive")][-2:]
            if head[:1] == ["union"]:
                out.append(Token("word", _members(head[1], _body(tokens, i))))
    return out


def _body(tokens: list[Token], start: int) -> list[str]:
    """Return the text between the braces that open at `start`."""
    depth, words = 0, []
    for token in tokens[start:]:
        depth += {"{": 1, "}": -1}.get(token.text, 0)
        if depth == 0:
            break
        if token.kind not in ("space", "directive"):
            words.append(token.text)
    return words[1:]


def _members(name: str, body: list[str]) -> str:
    if not any(_VECTOR.fullmatch(word) for word in body):
        return ""
    copy = "__builtin_memcpy(this, &o, sizeof o);"
    text = f" {name}() {{}} {name}(const {name}& o) {{ {copy} }}"
    text += f" {name}& operator=(const {name}& o) {{ {copy} return *this; }}"
    end = body.index(";") if ";" in body else 0
    if end and body[end - 1] != "]":
        text += f" template <class A> {name}(const A& a) {{ {body[end - 1]} = a; }}"
    return text
