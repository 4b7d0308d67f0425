"""Members: swizzles of swizzles, and specializations inside a class."""

from __future__ import annotations

from ..tokens import Token, join, next_solid


def single_swizzles(tokens: list[Token]) -> list[Token]:
    """Rewrite `v.zyx.xy` as `v.zy`: a swizzle here has no swizzles of its own."""
    out: list[Token] = []
    for token in tokens:
        out.append(token)
        if len(out) < 4 or out[-2].text != "." or out[-4].text != ".":
            continue
        first, second = out[-3].text, token.text
        for letters in ("xyzw", "rgba"):
            if 2 <= len(first) <= 4 and not set(first) - set(letters) and not set(second) - set(letters):
                places = [letters.index(c) for c in second]
                if max(places) < len(first):
                    token.text = "".join(first[p] for p in places)
                    del out[-3:-1]
                break
    return out


def drop_member_specializations(tokens: list[Token]) -> list[Token]:
    """Drop `template <>` before a member function inside its class, which g++ refuses; the overload does the same."""
    out: list[Token] = []
    inside = [False]  # of each open brace: is it a class's?
    statement: list[str] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.text == "template" and inside[-1]:
            opening = next_solid(tokens, i + 1)
            closing = next_solid(tokens, opening + 1)
            after = next_solid(tokens, closing + 1)
            words = [t.text for t in (tokens[j] for j in (opening, closing, after) if j < len(tokens))]
            if words[:2] == ["<", ">"] and words[2:] not in (["struct"], ["class"]):
                out.append(Token("space", "\n" * join(tokens[i:after]).count("\n") or " "))
                i = after
                continue
        if token.text == "{":
            inside.append(any(w in ("struct", "class", "union") for w in statement) and "(" not in statement)
            statement = []
        elif token.text == "}":
            inside = inside[:-1] or [False]
            statement = []
        elif token.text == ";":
            statement = []
        elif token.kind not in ("space", "directive"):
            statement.append(token.text)
        out.append(token)
        i += 1
    return out
