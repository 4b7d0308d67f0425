"""A map from stored names to known ones, for files whose names tell too little; and the mapping that was found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...formats.safetensors_file import read_json
from .match import Match

UNSETTLED = "?"
"""Stands in a printed map for a tensor that nothing is known of."""
Keys = Mapping[str, str | None]
"""Stored names to the names they are read under, None for tensors that are not needed.

`*` stands for a number, on both sides; a name also stands for everything below it (`blocks.*.attn` for
`blocks.3.attn.q.weight`).
"""


def read_keys(given: str | Path | Keys | None) -> Keys:
    """Return a map from a JSON file, or as it is given. Raises UserError unless it maps names to names or null."""
    if given is None:
        return {}
    raw: Mapping[str, Any] = read_json(Path(given)) if isinstance(given, str | Path) else given
    where = f"{given}: " if isinstance(given, str | Path) else "keys: "
    for stored, name in raw.items():
        if name is not None and not isinstance(name, str):
            raise UserError(f"{where}{stored} is mapped to {name!r:.60}; give a tensor's name, or null to omit it")
        if name is not None and (not name.strip() or name == UNSETTLED):
            raise UserError(f"{where}{stored} is mapped to {name!r}; give the name it is to be read under, or null")
        if name is not None and name.count("*") > stored.count("*"):
            raise UserError(f"{where}{name} has more * than {stored}, which it is mapped from; give it as many")
    return raw


def named(keys: Keys, stored: Iterable[str], path: Path) -> dict[str, str | None]:
    """Return what each stored tensor that the map speaks of is called; None: not needed.

    Raises UserError if an entry fits nothing.
    """
    # The longest entry wins: what is said of one tensor stands above what is said of its module.
    patterns = [(_pattern(entry), entry) for entry in sorted(keys, key=len, reverse=True)]
    found: dict[str, str | None] = {}
    used: set[str] = set()
    for name in stored:
        for pattern, entry in patterns:
            if not (fits := pattern.fullmatch(name)):
                continue
            used.add(entry)
            target = keys[entry]
            found[name] = None if target is None else _filled(target, fits) + fits["below"]
            break
    if unused := [entry for entry in keys if entry not in used]:
        listed = ", ".join(unused[:20])
        raise UserError(f"{path}: no tensor is called {listed}, which --keys names; see the names with info --keys")
    return found


def _pattern(entry: str) -> re.Pattern[str]:
    parts = [re.escape(part) for part in entry.split("*")]
    return re.compile(r"(\d+)".join(parts) + r"(?P<below>(?:[._/-].*)?)", re.DOTALL)


def _filled(target: str, fits: re.Match[str]) -> str:
    for number in fits.groups()[: target.count("*")]:
        target = target.replace("*", number, 1)
    return target


def as_map(match: Match) -> dict[str, str | None]:
    """Return the mapping that was found, in the form `--keys` reads; what is left over is UNSETTLED."""
    found: dict[str, str | None] = {}
    for name, source in match.sources.items():
        found.setdefault(source.name, name)
        if found[source.name] != name:
            found[source.name] = _joint(str(found[source.name]), name)
    found |= dict.fromkeys(match.aside)
    found |= {source.name: UNSETTLED for source in match.left}
    found |= {source.name: UNSETTLED for sources in match.rivals.values() for source in sources}
    return found


def _joint(one: str, other: str) -> str:
    """Return a name for a tensor that holds two canonical ones and more.

    It is `in_proj` for q, k and v, and the list's own name for all of a list.
    """
    if (head := re.fullmatch(r"(.*_attn\.)(?:[qkv]|in)_proj(\..*)", one)) and other.startswith(head[1]):
        return f"{head[1]}in_proj{head[2]}"
    return re.sub(r"\.\d+(?=\.)", "", one, count=1)


def lines(match: Match) -> list[str]:
    """Return the mapping for people: a line for each stored tensor."""
    shown = [
        f"{source} -> {name}" + (" (told by its shape alone)" if name in match.guessed else "")
        for name, source in match.sources.items()
    ]
    shown += [f"{name} -> not needed: {why}" for name, why in match.aside.items()]
    shown += [f"{source} {list(source.shape)} -> ?" for source in match.left]
    shown += [f"{source} -> {name}?" for name, sources in match.rivals.items() for source in sources]
    return shown
