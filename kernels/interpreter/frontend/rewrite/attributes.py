"""Attributes, `[[...]]`: what they state is known at launch or means nothing on a CPU."""

from __future__ import annotations

from ..tokens import Token, join, next_solid
from .qualifiers import FOLDED, SPACES


def drop_attributes(tokens: list[Token]) -> list[Token]:
    """Drop `[[...]]` and `coherent`, keeping line ends. A function constant that nobody sets becomes zero."""
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
        if tokens[i].text == "coherent" and (end := _coherence_end(tokens, i)):
            out.append(Token("space", "\n" * join(tokens[i:end]).count("\n") or " "))
            i = end
            continue
        out.append(tokens[i])
        i += 1
    return out


def _coherence_end(tokens: list[Token], i: int) -> int:
    """Return the index after the qualifier `coherent` or `coherent(scope)` at `i`; 0 where the word is a name."""
    at = next_solid(tokens, i + 1)
    words = [t.text for t in tokens[at : at + 8] if t.kind not in ("space", "directive")][:4]
    if words[:1] == ["("] and words[1:2] and words[1] in SPACES | {"system"} and words[2:3] == [")"]:
        return next(j for j in range(at, len(tokens)) if tokens[j].text == ")") + 1
    return i + 1 if words[:1] and words[0] in FOLDED else 0
