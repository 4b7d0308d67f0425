"""Metal to C++: what macros and a header cannot express.

The result compiles against the headers in `shim/`, with every construct on the line it had.
"""

from __future__ import annotations

import re

from .tokens import Token, join, next_solid, tokenize

_SPACES = {"device", "threadgroup", "thread", "constant"}
_FOLDED = _SPACES | {"const", "static", "constexpr", "inline", "volatile"}
_FLOAT = re.compile(r"^(?:\d[\d']*\.[\d']*(?:[eE][+-]?\d+)?|\.\d[\d']*(?:[eE][+-]?\d+)?|\d[\d']*[eE][+-]?\d+|\d+)$")
_NUMBER = re.compile(r"^([\d.']+(?:[eE][+-]?\d+)?)(h|H|bf|BF)$")


def rewrite_macros(tokens: list[Token]) -> list[Token]:
    """Rewrites the bodies of macro definitions, which can hold anything that code can."""
    out = []
    for token in tokens:
        if token.kind == "directive":
            match = re.match(r"(#[ \t]*define[ \t]+\w+(?:\([^)]*\))?)(.*)", token.text, re.DOTALL)
            if match:
                body = match.group(2).replace("\\\n", "\n")
                text = join(drop_attributes(_folded(float_literals(tokenize(body)))))
                token = Token("directive", match.group(1) + text.replace("\n", "\\\n"))
            elif re.match(r"#[ \t]*pragma[ \t]+(once|METAL)", token.text):
                token = Token("directive", "")
        out.append(token)
    return out


def float_literals(tokens: list[Token]) -> list[Token]:
    """Floating literals without suffix are floats in Metal, not doubles; `h` and `bf` are suffixes."""
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


def drop_attributes(tokens: list[Token]) -> list[Token]:
    """Drops `[[...]]` and `coherent`, keeping line ends. A function constant that nobody sets becomes zero."""
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
    """Index after the qualifier `coherent` or `coherent(scope)` at `i`; 0 where the word is a name."""
    at = next_solid(tokens, i + 1)
    words = [t.text for t in tokens[at : at + 8] if t.kind not in ("space", "directive")][:4]
    if words[:1] == ["("] and words[1:2] and words[1] in _SPACES | {"system"} and words[2:3] == [")"]:
        return next(j for j in range(at, len(tokens)) if tokens[j].text == ")") + 1
    return i + 1 if words[:1] and words[0] in _FOLDED else 0


def _folded(tokens: list[Token]) -> list[Token]:
    """One `const` for each run of qualifiers with `const`, `constant` or `constexpr` in any number.

    `constant` means `const` here; C++ forbids saying it twice. A method's qualifiers (`f() const thread`) reduce to
    `const`.
    """
    out: list[Token] = []
    i = 0
    while i < len(tokens):
        if tokens[i].kind != "word" or tokens[i].text not in _FOLDED:
            out.append(tokens[i])
            i += 1
            continue
        run: list[str] = []
        spaces = ""
        j = i
        end = i
        while j < len(tokens) and (tokens[j].kind == "space" or tokens[j].text in _FOLDED):
            if tokens[j].kind != "space":
                run.append(tokens[j].text)
                spaces += "".join(t.text for t in tokens[end:j] if t.kind == "space")
                end = j + 1
            j += 1
        solid = [t for t in out if t.kind not in ("space", "directive")][-1:]
        after_parameters = bool(solid) and solid[0].text == ")"
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
    """Does the declaration that goes on at `start` have a `*` before its name's initialiser?"""
    for token in tokens[start:]:
        if token.text in ("*", "&"):
            return True
        if token.text in ("=", ";", "(", "{", ")", ","):
            return False
    return False


def _said_const(out: list[Token]) -> bool:
    """Is there a `const` in the declaration so far?"""
    for token in reversed(out):
        if token.text in (";", "{", "}", "(", ",", ")", "*", "&", "<"):
            return False
        if token.kind == "word" and "const" in token.text.split():
            return True
    return False


def _type_end(tokens: list[Token], start: int) -> int:
    """Index after a type name (`a::b<c>`, `unsigned int`) that begins at `start`."""
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


def _threadgroup_variables(tokens: list[Token]) -> list[Token]:
    """`threadgroup T a[N];` in a function becomes a reference into the threadgroup's memory."""
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
    """Does a statement begin behind these tokens?"""
    for token in reversed(out):
        if token.kind in ("space", "directive"):
            continue
        # What an earlier declaration became is one token that ends with `;`.
        return token.text.rstrip().endswith((";", "{", "}", ":"))
    return True


def _variables(declaration: list[Token]) -> str | None:
    """The replacement for `T a[N], b` (a declaration without `threadgroup` and `;`), None if it declares pointers."""
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
        alias, slot = f"mtl_type_{name}", f"mtl_slot_{name}"
        text += (
            f"typedef {type_name} {alias}{shape}; static mtl_variable {slot} = "
            f'{{"{name}", sizeof({alias}), alignof({alias}), __LINE__, 0, nullptr}}; '
            f"{qualifiers} {alias}& {name} = metal::mtl_threadgroup<{alias}>({slot}); "
        )
    return text + "\n" * newlines


def _deduplicated(tokens: list[Token]) -> list[Token]:
    """Drops a function that is, but for address spaces, a copy of one before it in the same scope.

    Metal overloads by address space; where nothing else differs, one of them is enough.
    """
    seen: list[set[str]] = [set()]
    out: list[Token] = []
    start = 0  # in out, of the declaration under way
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
    """Is this a function with its body, and not a braced initialiser inside something longer?"""
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


def _single_swizzles(tokens: list[Token]) -> list[Token]:
    """`v.zyx.xy` becomes `v.zy`: a swizzle here has no swizzles of its own."""
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


def _member_specialisations(tokens: list[Token]) -> list[Token]:
    """Drops `template <>` before a member function inside its class, which g++ refuses: the overload is as good."""
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


def rewrite(source: str) -> str:
    """C++ for Metal `source`, with the same number of lines."""
    tokens = rewrite_macros(float_literals(tokenize(source)))
    tokens = _folded(drop_attributes(tokens))
    tokens = _threadgroup_variables(_single_swizzles(tokens))
    for token in tokens:
        if token.kind == "word" and any(w in _SPACES for w in token.text.split()):
            token.text = " ".join(w for w in token.text.split() if w not in _SPACES) or ""
    return join(_deduplicated(_member_specialisations(tokens)))
