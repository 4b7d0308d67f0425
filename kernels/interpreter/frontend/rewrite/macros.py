"""Macro definitions."""

from __future__ import annotations

import re

from ..tokens import Token, join, tokenize
from .attributes import drop_attributes
from .literals import float_literals
from .qualifiers import fold


def rewrite_macros(tokens: list[Token]) -> list[Token]:
    """Rewrite the bodies of macro definitions, which can hold anything that code can."""
    out = []
    for token in tokens:
        if token.kind == "directive":
            match = re.match(r"(#[ \t]*define[ \t]+\w+(?:\([^)]*\))?)(.*)", token.text, re.DOTALL)
            if match:
                body = match.group(2).replace("\\\n", "\n")
                text = join(drop_attributes(fold(float_literals(tokenize(body)))))
                token = Token("directive", match.group(1) + text.replace("\n", "\\\n"))
            elif re.match(r"#[ \t]*pragma[ \t]+(once|METAL)", token.text):
                token = Token("directive", "")
        out.append(token)
    return out
