"""The settings of an audiocraft experiment (`xp.cfg`, YAML) or any tree of settings, asked by dotted key."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError

MAX_TEXT = 1 << 20
REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_ABSENT = object()


class SettingsReader:
    """Settings with checks: each getter names the key and the value it refuses."""

    def __init__(self, source: str | dict[str, Any], path: Path) -> None:
        self.path = path
        if isinstance(source, str):
            if len(source) > MAX_TEXT:
                raise UserError(f"{path}: its xp.cfg has {len(source)} characters; at most {MAX_TEXT} are expected")
            try:
                parsed = _parsed(source)
            except (yaml.YAMLError, RecursionError, ValueError) as e:
                raise UserError(f"{path}: its xp.cfg is not YAML: {str(e).partition(chr(10))[0]}") from e
            if not isinstance(parsed, dict):
                raise UserError(f"{path}: its xp.cfg holds no settings")
            source = parsed
        self.tree: dict[str, Any] = source

    def get(self, key: str, default: Any = _ABSENT, *, _depth: int = 0) -> Any:
        """Return the value of a dotted key, OmegaConf's `${other.key}` followed. Raises UserError if it is absent."""
        node: Any = self.tree
        for part in key.split("."):
            node = node.get(part, _ABSENT) if isinstance(node, dict) else _ABSENT
        if isinstance(node, str) and (reference := REFERENCE.fullmatch(node)):
            if _depth > 8:
                raise UserError(f"{self.path}: {key} refers to itself")
            return self.get(reference[1], default, _depth=_depth + 1)
        if node is _ABSENT:
            if default is _ABSENT:
                raise UserError(f"{self.path}: its settings lack {key}")
            return default
        return node

    def require(self, key: str, value: Any) -> None:
        """Raise UserError unless the key is absent or has the only value that is implemented."""
        found = self.get(key, value)
        if found != value or (isinstance(value, bool) != isinstance(found, bool)):
            raise UserError(f"{self.path}: {key} is {found!r:.60}; only {value!r} is supported")

    def integer(self, key: str, default: Any = _ABSENT, *, least: int = 1, most: int = 1_000_000) -> int:
        """Return an integer. Raises UserError unless it is from `least` to `most`."""
        return self._natural(key, self.get(key, default), least, most)

    def number(self, key: str, default: Any = _ABSENT) -> float:
        """Return a number. Raises UserError unless it is from 0 to 1."""
        value = self.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise UserError(f"{self.path}: {key} is {value!r:.60}; it must be a number from 0 to 1")
        return float(value)

    def integers(self, key: str) -> list[int]:
        """Return a list of positive integers. Raises UserError if it is anything else."""
        value = self.get(key)
        if not isinstance(value, list) or not 0 < len(value) <= 16:
            raise UserError(f"{self.path}: {key} is {value!r:.60}; it must be a short list of integers")
        return [self._natural(key, each, 1, 1_000_000) for each in value]

    def text(self, key: str, default: Any = _ABSENT) -> str:
        """Return a string. Raises UserError if it is anything else."""
        value = self.get(key, default)
        if not isinstance(value, str):
            raise UserError(f"{self.path}: {key} is {value!r:.60}; it must be text")
        return value

    def _natural(self, key: str, value: Any, least: int, most: int) -> int:
        if type(value) is not int or not least <= value <= most:
            raise UserError(f"{self.path}: {key} is {value!r:.60}; it must be an integer from {least} to {most}")
        return value


@lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    """Parse YAML. A codec's settings are asked for when its bundle is opened and again with its weights."""
    return yaml.safe_load(text)
