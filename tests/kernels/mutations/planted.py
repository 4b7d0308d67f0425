"""A mutant is a textual change of one `.metal` or `.h` file, and the check that must notice it.

The text must occur exactly once, so that a rewritten kernel cannot turn a mutant into a no-op.
"""

from __future__ import annotations

import dataclasses

from kernels import interpreter, metal

from ..metal.test_metal_checked import Case

BARRIER = "metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);\n"

Changes = list[tuple[str, Case, list[tuple[str, str, str]]]]
"""A file, the check that must notice, and (what is wrong, text, its replacement)."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    what: str
    old: str
    new: str
    file: str
    killer: Case


def mutants(planted: Changes) -> list[Mutant]:
    return [Mutant(*change, file, killer) for file, killer, changes in planted for change in changes]


class Planted(metal.Engine):
    """The interpreter, in check mode, on sources with one mutant."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(interpreter.metal_kernel, {"check": True, "seed": 1})
        self.mutant, self.used = mutant, False

    def source(self, file: str) -> str:
        text = super().source(file)
        if file != self.mutant.file:
            return text
        count = text.count(self.mutant.old)
        assert count == 1, f"{self.mutant.old!r} occurs {count} times in {file}; adapt the mutant to the new source"
        self.used = True
        return text.replace(self.mutant.old, self.mutant.new)
