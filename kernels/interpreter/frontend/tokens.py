"""Lexing C++ just far enough to rewrite it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>(?:[ \t\r\n\f\v]|\\\r?\n)+)
  | (?P<comment>//(?:[^\n\\]|\\.|\\\n)*|/\*.*?\*/)
  | (?P<string>(?:u8|[uUL])?"(?:[^"\\\n]|\\.)*"|(?:[uUL])?'(?:[^'\\\n]|\\.)*')
  | (?P<word>[A-Za-z_]\w*)
  | (?P<number>\.?\d(?:[eEpP][+-]|'(?=\w)|[\w.])*)
  | (?P<punct>::|->\*?|\.\.\.|<<=|>>=|<<|[-+*/%&|^=!<>]=|&&|\|\||\+\+|--|\#\#|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Token:
    """A piece of source text. kind: space, word, number, string, punct or directive (a whole preprocessor line)."""

    kind: str
    text: str


def _blank(text: str) -> str:
    """Return white space with the same line ends."""
    newlines = text.count("\n")
    return "\n" * newlines if newlines else " "


def tokenize(source: str) -> list[Token]:
    """Return tokens whose texts, joined, are the source without its comments; line numbers are kept.

    `>>` comes as two tokens, so that template argument lists nest.
    """
    tokens: list[Token] = []
    at_line_start = True
    position = 0
    while position < len(source):
        if source[position] == "#" and at_line_start:
            end = position
            while end < len(source) and source[end] != "\n":
                if source[end] == "\\" and end + 1 < len(source):
                    end += 1
                    if source[end] == "\r" and source[end + 1 : end + 2] == "\n":
                        end += 1
                elif source.startswith("/*", end):
                    close = source.find("*/", end + 2)
                    end = len(source) if close < 0 else close + 1
                elif source.startswith("//", end):
                    while end + 1 < len(source) and source[end + 1] != "\n":
                        end += 1
                end += 1
            tokens.append(Token("directive", source[position:end]))
            position = end
            continue
        match = _TOKEN.match(source, position)
        assert match is not None and match.lastgroup is not None
        kind, text = match.lastgroup, match.group()
        position = match.end()
        if kind == "comment":
            kind, text = "space", _blank(text)
        tokens.append(Token(kind, text))
        at_line_start = kind == "space" and (at_line_start or "\n" in text)
    return tokens


def join(tokens: list[Token]) -> str:
    """Return the text of tokens."""
    return "".join(token.text for token in tokens)


def next_solid(tokens: list[Token], start: int) -> int:
    """Return the index of the first token from `start` on that is not space, or len(tokens)."""
    while start < len(tokens) and tokens[start].kind in ("space", "directive"):
        start += 1
    return start
