"""Attributes, `[[...]]`: what they say is known at launch or means nothing on a CPU."""

from __future__ import annotations

from ..tokens import Token, join, next_solid


def drop_attributes(tokens: list[Token]) -> list[Token]:
    """Drops `[[...]]`, keeping its line ends. A function constant that nobody sets becomes zero."""
    out: list[Token] = []
    i = 0
    while i < len(tokens):
        if tokens[i].text == "[" and i + 1 < len(tokens) and tokens[i + 1].text == "[":
            depth, j = 0, i
            while j < len(tokens):
                depth += {"[": 1, "]": -1}.get(tokens[j].text, 0)
                j += 1
                if depth == 0:
                    break
            inside = join(tokens[i:j])
            after = next_solid(tokens, j)
            if "function_constant" in inside and after < len(tokens) and tokens[after].text == ";":
                out.append(Token("punct", "{}"))
            out.append(Token("space", "\n" * inside.count("\n") or " "))
            i = j
            continue
        out.append(tokens[i])
        i += 1
    return out
