"""What C++ has and Metal lacks, found in the text (Metal Shading Language Specification 3.1, section 1.5.4)."""

from __future__ import annotations

from .tokens import Token, next_solid, tokenize

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


def banned(text: str) -> list[tuple[int, str]]:
    """(line, what is wrong) for each use of something that Metal lacks."""
    found, line = [], 1
    tokens = tokenize(text)
    for i, token in enumerate(tokens):
        if token.kind == "word":
            if message := _wrong(tokens, i):
                found.append((line, f"`{token.text}`: {message}"))
        elif token.kind == "directive" and "#include" in token.text.replace(" ", ""):
            name = token.text.partition("include")[2].strip()
            if name.startswith("<") and not name.startswith("<metal") and not name.startswith("<simd/"):
                found.append((line, f"`{name}`: Metal has only <metal_...> headers"))
        line += token.text.count("\n")
    return found


def _wrong(tokens: list[Token], i: int) -> str | None:
    word = tokens[i].text
    after = next_solid(tokens, i + 1)
    following = tokens[after].text if after < len(tokens) else ""
    if word == "std" and following == "::":
        return "Metal has no std; use metal"
    if word == "delete" and i > 1 and following in (";", ","):
        before = [t.text for t in tokens[:i] if t.kind not in ("space", "directive")][-1:]
        return None if before == ["="] else _WORDS[word]  # a deleted function
    return _WORDS.get(word)
