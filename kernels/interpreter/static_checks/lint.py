"""Address spaces, checked by clang: the kernel is parsed with `device`, `constant` and `threadgroup` as real spaces.

The compiled kernel has none (they are empty macros), so a `threadgroup` pointer handed on as a `device` one would go
unnoticed. Here clang only parses, against declarations (metal_stdlib/lint.h); of its errors, those about address
spaces count. Pointers that name no space at all are found without clang (address_space.py).
"""

from __future__ import annotations

import hashlib
import re
import subprocess

from ..cache import cache_folder, keep
from ..compiler import HEADER_LINES, HERE, Compiler, compilers, stdlib_hash
from ..frontend import prelude
from ..frontend.rewrite.attributes import drop_attributes
from ..frontend.rewrite.literals import float_literals
from ..frontend.rewrite.threadgroup import starts_statement
from ..frontend.signature import Signature
from ..frontend.tokens import Token, join, next_solid, tokenize

Finding = tuple[int, str]
"""(line of the translation unit, message) of one error."""

_ERROR = re.compile(r"^(header|source):(\d+)(?::\d+)?: error: (.*)$")
_NOTE = re.compile(r"^.*: note: (.*)$")
_CONVERTED = re.compile(r"of type '([^']*)' with an? \w+ of type '([^']*)'")
_DEDUCED = re.compile(r"deduced type '([^']*)' .* does not match adjusted type '([^']*)'")
_VECTOR = re.compile(r"(?:bool|u?char|u?short|u?int|u?long|half|bfloat|float)[234]")
_SPACE = re.compile(r"\b(device|constant|threadgroup)\b")
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[^\n]*", re.MULTILINE)


def clang() -> Compiler | None:
    """Return the clang that checks address spaces, or None."""
    return next((c for c in compilers() if c.family == "clang"), None)


def _text(source: str, depth: int = 0) -> str:
    """Return the source as clang can parse it, with address spaces; it begins inside `depth` braces.

    Variables in threadgroup memory become static, the one kind that may have an address space in a C++ function.
    Constructors of vectors become calls.
    """
    tokens = drop_attributes(float_literals(tokenize(_INCLUDE.sub("", source))))
    out: list[Token] = []
    for i, token in enumerate(tokens):
        depth += {"{": 1, "}": -1}.get(token.text, 0)
        if token.text == "threadgroup" and depth > 0 and starts_statement(out) and not _points(tokens, i + 1):
            token = Token("word", "static threadgroup")
        elif token.kind == "word" and (end := _vector_end(tokens, i)):
            after = next_solid(tokens, end)
            if after < len(tokens) and tokens[after].text == "(" and not _declares(out):
                token.text = f"mtl_make<{token.text}"
                tokens[end - 1].text += ">"
        out.append(token)
    return join(out)


def _points(tokens: list[Token], start: int) -> bool:
    """Return whether the declaration that goes on at `start` declares a pointer or a reference."""
    angles = 0
    for token in tokens[start:]:
        angles += {"<": 1, ">": -1}.get(token.text, 0)
        if angles == 0 and token.text in ("*", "&"):
            return True
        if angles == 0 and token.text in (";", "=", "[", "{", "(", ","):
            return False
    return False


def _vector_end(tokens: list[Token], i: int) -> int:
    """Return the index after the vector type that begins at `i`; 0 if none does."""
    if _VECTOR.fullmatch(tokens[i].text):
        return i + 1
    if tokens[i].text != "vec":
        return 0
    j, depth = next_solid(tokens, i + 1), 0
    if j >= len(tokens) or tokens[j].text != "<":
        return 0
    while j < len(tokens):
        depth += {"<": 1, ">": -1}.get(tokens[j].text, 0)
        j += 1
        if depth == 0:
            return j
    return 0


def _declares(out: list[Token]) -> bool:
    """Return whether a type here belongs to `operator T()` or a qualified name."""
    solid = [t.text for t in out[-4:] if t.kind != "space"]
    return bool(solid) and solid[-1] in ("operator", "::")


def unit(signature: Signature) -> str:
    """Return the translation unit that clang parses: declarations, prelude, header, signature and source."""
    return "\n".join(
        [
            "#define MTL_LINT 1",
            '#include "lint.h"',
            '#line 1 "prelude"',
            "" if prelude.brought(signature.header) else _text(prelude.source()),
            f'#line {HEADER_LINES + 1} "header"',
            _text(signature.header),
            '#line 1 "signature"',
            _text(signature.prologue).rstrip("\n"),
            '#line 1 "source"',
            _text(signature.source + signature.epilogue, depth=1),
        ]
    )


def lint(signature: Signature, using: Compiler) -> list[Finding]:
    """Return clang's errors about the kernel's address spaces; they are kept beside the compiled kernels."""
    text = unit(signature)
    command = ["-std=c++20", "-w", "-fsyntax-only", "-ferror-limit=0", "-fno-caret-diagnostics"]
    key = hashlib.sha256("\0".join([using.version, *command, stdlib_hash(), text]).encode()).hexdigest()[:32]
    kept = cache_folder() / f"lint-{key}.txt"
    if not kept.exists():
        run = [using.path, *command, "-I", str(HERE / "metal_stdlib"), "-x", "c++", "-"]
        done = subprocess.run(run, input=text, capture_output=True, text=True, check=False)
        keep(kept, done.stderr)
    return findings(kept.read_text())


def findings(messages: str) -> list[Finding]:
    """Return the errors about address spaces among clang's messages."""
    found: list[Finding] = []
    lines = messages.splitlines()
    for i, row in enumerate(lines):
        match = _ERROR.match(row)
        if not match:
            continue
        notes = []
        for other in lines[i + 1 :]:
            note = _NOTE.match(other)
            if not note:
                break
            notes.append(note.group(1))
        if _concerns_spaces(match.group(3), notes):
            why = next((f" ({n})" for n in notes if _kept_out(n)), "")
            finding = (int(match.group(2)), match.group(3) + why)
            if finding not in found:
                found.append(finding)
    return found


def _concerns_spaces(message: str, notes: list[str]) -> bool:
    if "address space" in message and ("changes" in message or "mismatching" in message):
        return True
    if types := _CONVERTED.search(message):
        return _differ(types)
    if message.startswith("no matching function for call"):
        # Address spaces keep out every candidate that takes so many arguments.
        candidates = [n for n in notes if n.startswith("candidate") and "requires" not in n]
        return bool(candidates) and all(_kept_out(n) for n in candidates)
    return False


def _kept_out(note: str) -> bool:
    types = _DEDUCED.search(note)
    return _differ(types) if types else "address space" in note


def _differ(types: re.Match[str]) -> bool:
    """Return whether two pointers (or a pointer and an array) point into different spaces."""
    wanted, given = (re.sub(r"__attribute__\(\(address_space\(2\)\)\)", "constant", t) for t in types.groups())
    return "*" in wanted and ("*" in given or "[" in given) and _SPACE.findall(wanted) != _SPACE.findall(given)
