"""Address spaces and `const`, which Metal combines as C++ does not."""

from __future__ import annotations

from ..tokens import Token

SPACES = {"device", "threadgroup", "thread", "constant"}
FOLDED = SPACES | {"const", "static", "constexpr", "inline", "volatile"}


def fold(tokens: list[Token]) -> list[Token]:
    """Replace each run of qualifiers by one without repeats, `constant` read as `const`: C++ rejects a second `const`.

    `const` goes beside `constexpr` too, except of a pointer or reference. After a method's parameters `constant` is
    dropped: `f() const constant` becomes `f() const`. Other address spaces stay, for `drop_spaces`.
    """
    out: list[Token] = []
    i = 0
    while i < len(tokens):
        if tokens[i].kind != "word" or tokens[i].text not in FOLDED:
            out.append(tokens[i])
            i += 1
            continue
        run: list[str] = []
        spaces = ""
        j = i
        end = i
        while j < len(tokens) and (tokens[j].kind == "space" or tokens[j].text in FOLDED):
            if tokens[j].kind != "space":
                run.append(tokens[j].text)
                spaces += "".join(t.text for t in tokens[end:j] if t.kind == "space")
                end = j + 1
            j += 1
        before = next((t.text for t in reversed(out) if t.kind not in ("space", "directive")), "")
        after_parameters = before == ")"
        keep: list[str] = []
        for word in run:
            if word == "constant":
                # A method that can be called on constant objects is const already if it says so.
                if after_parameters:
                    continue
                word = "const"
            if word not in keep:
                keep.append(word)
        if "constexpr" in keep and "const" in keep and not _declares_pointer(tokens, end):
            keep.remove("const")
        # An address space after a type that said const: `const int constant*`.
        if keep == ["const"] and run == ["constant"] and _said_const(out):
            keep = []
        out.append(Token("word", " ".join(keep)))
        if "\n" in spaces:
            out.append(Token("space", "\n" * spaces.count("\n")))
        i = end
    return out


def _declares_pointer(tokens: list[Token], start: int) -> bool:
    """Return whether the declaration that goes on at `start` has a `*` before its name's initializer."""
    for token in tokens[start:]:
        if token.text in ("*", "&"):
            return True
        if token.text in ("=", ";", "(", "{", ")", ","):
            return False
    return False


def _said_const(out: list[Token]) -> bool:
    """Return whether the declaration so far has a `const`."""
    for token in reversed(out):
        if token.text in (";", "{", "}", "(", ",", ")", "*", "&", "<"):
            return False
        if token.kind == "word" and "const" in token.text.split():
            return True
    return False


def drop_spaces(tokens: list[Token]) -> list[Token]:
    """Drop address spaces, since all memory is one on a CPU."""
    for token in tokens:
        if token.kind == "word" and any(w in SPACES for w in token.text.split()):
            token.text = " ".join(w for w in token.text.split() if w not in SPACES)
    return tokens
