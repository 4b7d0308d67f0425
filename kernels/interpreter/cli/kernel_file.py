"""A kernel's file as the command line takes it: a body, as `mx.fast.metal_kernel` has it, or whole Metal functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..frontend.signature import ATTRIBUTES
from ..frontend.tokens import join, tokenize

_LAUNCH = re.compile(r"^\s*//\s*check:(.*)$")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"')
_KERNEL = re.compile(r"(?:\bkernel\b|\[\[\s*kernel\s*\]\])[^;{}()]*?\bvoid\s+(\w+)\s*\(")
_TEMPLATE = re.compile(r"\btemplate\s*<[^;{}]*>\s*$")
_ATTRIBUTE = re.compile(r"\[\[\s*(\w+)\s*(?:\([^)]*\))?\s*\]\]")
_SCALARS = re.compile(r"u?char|u?short|u?int|u?long|bool|half|bfloat|float|u?int(?:8|16|32|64)_t|b?float16_t")
_QUALIFIERS = {"const", "device", "constant", "restrict", "__restrict", "volatile", "coherent", "&", "*"}
_OPEN = {"(": ")", "{": "}"}


class UsageError(ValueError):
    """Something that the command line or a kernel's file asks for cannot be done; the message says what can."""


@dataclass(frozen=True)
class KernelFile:
    """A kernel's file in parts. Lines of `body` have the numbers that they have in the file."""

    path: Path
    body: str
    header: str
    header_lines: tuple[tuple[Path, int], ...]  # where each line of `header` comes from
    buffers: tuple[tuple[str, bool], ...] | None  # of a whole function: (name, whether it is taken by reference)

    def place(self, line: int) -> str:
        """Return FILE:LINE of a line of the header, or "" if it has no such line."""
        if not 0 < line <= len(self.header_lines):
            return ""
        path, number = self.header_lines[line - 1]
        return f"{path}:{number}"


def read_text(path: Path) -> str:
    """Return a text file's contents, without a byte order mark. Raises UsageError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise UsageError(f"{path} is not text in UTF-8 (byte {e.start}); save it as UTF-8") from None


def launch_lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number, text) of each `// check:` line of a file."""
    rows = enumerate(read_text(path).splitlines(), 1)
    return [(number, match.group(1).strip()) for number, row in rows if (match := _LAUNCH.match(row))]


def read_kernel(path: Path, function: str | None, headers: list[Path]) -> KernelFile:
    """Read a kernel's file, with the files that it includes from its own folder and `headers` before it.

    Raises UsageError, with the fix, if it includes what is not there, or holds functions of which none or several fit.
    """
    text = read_text(path)
    lines: list[tuple[str, Path, int]] = []
    seen: set[Path] = set()
    for header in headers:
        lines += _included(header, seen)
    own, text = _without_includes(path, text, seen)
    lines += own
    plain = join(tokenize(text))
    functions = list(_functions(path, plain))
    if not functions:
        if function is not None:
            raise UsageError(f"{path} has no `kernel void {function}(...)`; omit --function where a file holds a body")
        body, buffers = text, None
    else:
        start, name, opened = _chosen(path, functions, function)
        body, buffers = _body(path, plain, name, opened)
        preamble = _TEMPLATE.sub(lambda m: "\n" * m.group().count("\n"), plain[:start])
        others = [
            (begin, _end(path, plain, plain.index("{", opened))) for begin, _, opened in functions if begin < start
        ]
        for begin, end in reversed(others):  # this kernel needs no other kernels of the file
            begin -= len(match.group()) if (match := _TEMPLATE.search(preamble[:begin])) else 0
            preamble = preamble[:begin] + "\n" * preamble[begin:end].count("\n") + preamble[end:]
        lines += [(row, path, number) for number, row in enumerate(preamble.splitlines(), 1)]
    joined = "".join(row + "\n" for row, _, _ in lines)
    return KernelFile(path, body, joined, tuple((p, n) for _, p, n in lines), buffers)


def _included(path: Path, seen: set[Path]) -> list[tuple[str, Path, int]]:
    """Return the lines of a header, after those of the headers that it includes from beside it; each file once."""
    if path.resolve() in seen:
        return []
    seen.add(path.resolve())
    lines, text = _without_includes(path, read_text(path), seen)
    return lines + [(row, path, number) for number, row in enumerate(text.splitlines(), 1)]


def _without_includes(path: Path, text: str, seen: set[Path]) -> tuple[list[tuple[str, Path, int]], str]:
    """Return the lines that a file includes from beside it, and its own text with those directives left blank."""
    lines: list[tuple[str, Path, int]] = []
    own = []
    for number, row in enumerate(text.splitlines(), 1):
        match = _INCLUDE.match(row)
        if match is None:
            own.append(row)
            continue
        own.append("")
        name = match.group(1)
        if name.startswith("mlx/"):  # MLX puts its own before every kernel
            continue
        file = path.parent / name
        if not file.is_file():
            raise UsageError(
                f'{path}:{number} includes "{name}", and there is no {file}; put the header there, or remove the line'
            )
        lines += _included(file, seen)
    return lines, "\n".join(own) + "\n"


def _functions(path: Path, text: str) -> Iterator[tuple[int, str, int]]:
    """Yield (start, name, index of the parenthesis) of each kernel function that has a body."""
    for match in _KERNEL.finditer(text):
        after = _end(path, text, match.end() - 1)
        if _ATTRIBUTE.sub("", text[after:]).lstrip().startswith("{"):
            yield match.start(), match.group(1), match.end() - 1


def _chosen(path: Path, functions: list[tuple[int, str, int]], wanted: str | None) -> tuple[int, str, int]:
    names = [name for _, name, _ in functions]
    if wanted is None and len(functions) > 1:
        raise UsageError(f"{path} has the kernels {', '.join(names)}; choose one with --function NAME")
    for found in functions:
        if wanted in (None, found[1]):
            return found
    raise UsageError(f"{path} has no kernel {wanted}; choose {' or '.join(names)} with --function")


def _end(path: Path, text: str, start: int) -> int:
    """Return the index behind the bracket that closes the one at `start`. Raises UsageError if none does."""
    depth = 0
    for i in range(start, len(text)):
        if text[i] == text[start]:
            depth += 1
        elif text[i] == _OPEN[text[start]]:
            depth -= 1
            if depth == 0:
                return i + 1
    line = text.count("\n", 0, start) + 1
    raise UsageError(f"{path}:{line}: this {text[start]!r} is never closed; add the closing bracket")


def _body(path: Path, text: str, name: str, opened: int) -> tuple[str, tuple[tuple[str, bool], ...]]:
    """Return a function's body, on its lines, with the names that its signature gives to thread positions."""
    closed = _end(path, text, opened)
    brace = text.index("{", closed)
    buffers, aliases = [], []
    for parameter in _parameters(text[opened + 1 : closed - 1]):
        attribute = _ATTRIBUTE.search(parameter)
        kind = attribute.group(1) if attribute else "buffer"
        words = re.findall(r"\w+|[&*]", _ATTRIBUTE.sub("", parameter))
        if kind == "buffer":
            buffers.append(_buffer(path, name, words))
        else:
            aliases.append(_alias(path, name, kind, words))
    inside = text[brace + 1 : _end(path, text, brace) - 1]
    return "\n" * text[: brace + 1].count("\n") + " ".join(aliases) + inside, tuple(buffers)


def _parameters(text: str) -> list[str]:
    """Split at the commas that stand in no brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += {"(": 1, "[": 1, "<": 1, ")": -1, "]": -1, ">": -1}.get(c, 0)
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part for part in parts if part.strip()]


def _buffer(path: Path, function: str, words: list[str]) -> tuple[str, bool]:
    """Return (name, whether it is taken by reference) of a buffer."""
    types = [w for w in words[:-1] if w not in _QUALIFIERS]
    if len(types) != 1 or (re.search(r"\d$", types[0]) and not _SCALARS.fullmatch(types[0])):
        raise UsageError(
            f"{path}: {function} takes {' '.join(words)}; a custom kernel's buffers hold single numbers (float*, not "
            "float4* or a struct). Take the plain pointer and convert it in the body"
        )
    return words[-1], "&" in words


def _alias(path: Path, function: str, attribute: str, words: list[str]) -> str:
    """Return the declaration that gives a thread position the name and type that a function gave it."""
    types = {name: type_name for name, type_name, _ in ATTRIBUTES}
    if attribute not in types:
        raise UsageError(
            f"{path}: {function} takes {' '.join(words)} [[{attribute}]], which a custom kernel of MLX cannot; "
            "declare threadgroup memory inside the body, and pass constants as inputs"
        )
    own = [w for w in words[:-1] if w not in _QUALIFIERS][-1]
    name = words[-1]
    width = re.search(r"[23]$", own)
    part = "" if types[attribute] == "uint" or own.endswith("3") else ".xy" if width else ".x"
    value = f"{own}({attribute}{part})"
    # A variable of the attribute's own name would hide what it is made from: MLX declares that one itself.
    if name == attribute:
        if own != types[attribute]:
            raise UsageError(f"{path}: {function} takes {name} as {own}, MLX gives {types[attribute]}; rename it")
        return ""
    return f"const {own} {name} = {value};"
