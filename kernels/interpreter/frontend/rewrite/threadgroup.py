"""`threadgroup` variables: references into memory that the runtime gives."""

from __future__ import annotations

from ..tokens import Token, join, next_solid


def threadgroup_variables(tokens: list[Token]) -> list[Token]:
    """Make a reference into the threadgroup's memory of each `threadgroup T a[N];` in a function."""
    out: list[Token] = []
    i = 0
    depth = 0
    while i < len(tokens):
        token = tokens[i]
        if token.kind == "word" and "threadgroup" in token.text.split() and starts_statement(out) and depth > 0:
            end = i
            nested = 0
            while end < len(tokens) and not (tokens[end].text == ";" and nested == 0):
                nested += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(tokens[end].text, 0)
                end += 1
            replaced = _variables(tokens[i + 1 : end])
            if replaced is not None:
                out.append(Token("word", replaced))
                i = end + 1
                continue
        depth += {"{": 1, "}": -1}.get(token.text, 0)
        out.append(token)
        i += 1
    return out


def starts_statement(out: list[Token]) -> bool:
    """Return whether a statement begins behind these tokens."""
    for token in reversed(out):
        if token.kind in ("space", "directive"):
            continue
        # What an earlier declaration became is one token that ends with `;`.
        return token.text.rstrip().endswith((";", "{", "}", ":"))
    return True


def _variables(declaration: list[Token]) -> str | None:
    """Return the replacement for `T a[N], b` (a declaration without `threadgroup` and `;`).

    None if it declares pointers.
    """
    start = next_solid(declaration, 0)
    qualifiers = ""
    if start < len(declaration) and declaration[start].text == "alignas":
        close = start
        while close < len(declaration) and declaration[close].text != ")":
            close += 1
        qualifiers = join(declaration[start : close + 1])
        start = next_solid(declaration, close + 1)
    middle = _type_end(declaration, start)
    type_name = " ".join(join(declaration[start:middle]).split())
    newlines = join(declaration).count("\n")
    declarators: list[list[Token]] = [[]]
    nested = 0
    for token in declaration[middle:]:
        if token.text in ("*", "&") and nested == 0:
            return None
        nested += {"(": 1, "[": 1, "{": 1, "<": 1, ")": -1, "]": -1, "}": -1, ">": -1}.get(token.text, 0)
        if token.text == "," and nested == 0:
            declarators.append([])
        else:
            declarators[-1].append(token)
    text = ""
    for declarator in declarators:
        at = next_solid(declarator, 0)
        if at >= len(declarator) or declarator[at].kind != "word":
            return None
        name = declarator[at].text
        shape = "".join(join(declarator[at + 1 :]).split("\n")).strip()
        if shape and not shape.startswith("["):
            return None
        text += f"typedef {type_name} mtl_type_{name}{shape}; MTL_THREADGROUP({name}, {qualifiers}); "
    return text + "\n" * newlines


def _type_end(tokens: list[Token], start: int) -> int:
    """Return the index after a type name (`a::b<c>`, `unsigned int`) that begins at `start`."""
    i = next_solid(tokens, start)
    builtin = {"unsigned", "signed", "int", "char", "short", "long", "typename", "struct", "class"}
    while i < len(tokens):
        word = tokens[i].text
        i += 1
        j = next_solid(tokens, i)
        if j < len(tokens) and tokens[j].text == "<":
            depth = 0
            while j < len(tokens):
                depth += {"<": 1, ">": -1}.get(tokens[j].text, 0)
                j += 1
                if depth == 0:
                    break
            i = j
            j = next_solid(tokens, i)
        if j < len(tokens) and tokens[j].text == "::":
            i = next_solid(tokens, j + 1)
            continue
        if word in builtin and j < len(tokens) and tokens[j].kind == "word":
            following = next_solid(tokens, j + 1)
            if word in ("typename", "struct", "class") or tokens[j].text in builtin:
                i = j
                continue
            if following < len(tokens) and tokens[following].kind == "word" and tokens[j].text in builtin:
                i = j
                continue
        return i
    return i
