"""Functions that Metal tells apart by address space and C++ cannot."""

from __future__ import annotations

import re

from ..tokens import Token


def drop_duplicates(tokens: list[Token]) -> list[Token]:
    """Drop a function that is, but for address spaces, a copy of one before it in the same scope.

    Metal overloads by address space; where nothing else differs, one of them is enough.
    """
    seen: list[set[str]] = [set()]
    out: list[Token] = []
    start = 0  # index in `out` where the current declaration begins
    starts = [0]
    for token in tokens:
        out.append(token)
        if token.kind == "directive":
            starts[-1] = len(out) if starts[-1] == len(out) - 1 else starts[-1]
        elif token.text == "{":
            starts.append(len(out))
            seen.append(set())
        elif token.text == "}" and len(starts) > 1:
            starts.pop()
            seen.pop()
            start = starts[-1]
            declaration = [t for t in out[start:] if t.kind != "space"]
            text = " ".join(" ".join(t.text.split()) for t in declaration if t.text)
            if "(" in text and not re.match(r"(struct|class|namespace|enum|union|extern)\b", text):
                if text in seen[-1]:
                    newlines = sum(t.text.count("\n") for t in out[start:])
                    del out[start:]
                    out.append(Token("space", "\n" * newlines))
                    starts[-1] = len(out)
                elif _is_function(declaration):
                    seen[-1].add(text)
                    starts[-1] = len(out)
            elif re.match(r"(namespace|extern)\b", text):
                starts[-1] = len(out)
        elif token.text == ";":
            starts[-1] = len(out)
    return out


def _is_function(declaration: list[Token]) -> bool:
    """Return whether this is a function with its body, and not a braced initializer inside something longer."""
    depth = angles = 0
    for before, token in zip([Token("space", ""), *declaration], declaration):
        if token.text == "<" and (angles or before.text == "template"):
            angles += 1
        elif token.text == ">" and angles:
            angles -= 1
        elif angles:
            continue
        if token.text == "{" and depth == 0:
            return True
        if token.text == "=" and depth == 0:
            return False
        depth += {"(": 1, ")": -1}.get(token.text, 0)
    return False
