"""The names that a pickle may call by, and the stand-ins for what it names: none of them is ever imported."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

INERT_MODULES = {
    "_codecs", "abc", "argparse", "array", "collections", "copyreg", "copy_reg", "dataclasses", "datetime", "decimal",
    "enum", "fractions", "functools", "itertools", "math", "numbers", "pathlib", "random", "re", "string", "time",
    "typing", "uuid", "zoneinfo",
}  # fmt: skip
"""Modules of the standard library to whose objects honest checkpoints refer (optimizer partials, paths, settings)."""
INERT_BUILTINS = {
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object", "range",
    "set", "slice", "str", "tuple", "unicode",
}  # fmt: skip


SAVE = "save the state dict with torch.save instead"
"""The fix for a file that is whole and that `torch.save` would not have written of plain data."""


class MalformedPickleError(Exception):
    """The pickle is damaged, or refers to something that no checkpoint needs; `fix` says what to do."""

    def __init__(self, message: str, fix: str = "get a whole copy") -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True)
class Symbol:
    """A class or function that the pickle names; never imported."""

    module: str
    name: str

    @property
    def qualified(self) -> str:
        """Return `module.name`."""
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Placeholder:
    """Stands for an object of a class that is not plain data; `state` is what the pickle would have put into it."""

    made_by: str
    state: Any = None
    items: list[Any] = field(default_factory=list)


def symbol(module: str, name: str) -> Symbol:
    """Return a named class or function, unless only an attack would name it."""
    root = module.partition(".")[0]
    if root in ("builtins", "__builtin__"):
        # getattr is how nested classes are named; calling what it gives is refused.
        fine = name in INERT_BUILTINS or name == "getattr"
    elif root in INERT_MODULES:
        fine = "." not in name  # `pathlib` `Path.touch` is a method, not a class
    else:
        fine = root not in sys.stdlib_module_names or (module, name) == ("types", "SimpleNamespace")
    if not fine or root in ("posix", "nt", "commands"):
        raise MalformedPickleError(
            f"its pickle refers to {module}.{name}, which a checkpoint has no use for", "don't load this file anywhere"
        )
    return Symbol(module, name)
