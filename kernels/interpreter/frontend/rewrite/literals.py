"""Floating-point literals: floats in Metal, doubles in C++."""

from __future__ import annotations

import re

from ..tokens import Token

_FLOAT = re.compile(r"^(?:\d[\d']*\.[\d']*(?:[eE][+-]?\d+)?|\.\d[\d']*(?:[eE][+-]?\d+)?|\d[\d']*[eE][+-]?\d+|\d+)$")
_NUMBER = re.compile(r"^([\d.']+(?:[eE][+-]?\d+)?)(h|H|bf|BF)$")


def float_literals(tokens: list[Token]) -> list[Token]:
    """Make floats of floating literals without suffix, which are doubles in C++; `h` and `bf` are suffixes."""
    for token in tokens:
        if token.kind != "number" or token.text[:2] in ("0x", "0X", "0b", "0B"):
            continue
        match = _NUMBER.match(token.text)
        if match:
            kind = "half" if match.group(2) in "hH" else "bfloat"
            literal = match.group(1) + ("f" if _is_floating(match.group(1)) else ".0f")
            token.text = f"(({kind}){literal})"
            token.kind = "word"
        elif _is_floating(token.text):
            token.text += "f"
    return tokens


def _is_floating(text: str) -> bool:
    return bool(_FLOAT.match(text)) and any(c in text for c in ".eE")
