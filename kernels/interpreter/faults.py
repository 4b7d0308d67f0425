"""The kinds of faults that check mode finds, in words."""

from __future__ import annotations

from dataclasses import dataclass

from .compiler import HEADER_LINES

KINDS = {
    1: "out-of-bounds",
    2: "store-to-input",
    3: "uninitialized-read",
    4: "race",
    5: "cross-threadgroup",
    6: "divergent-barrier",
    7: "divergent-simd",
    8: "ended-lanes",
    9: "inactive-lane",
    10: "unwritten-output",
    11: "misaligned",
    12: "private-bounds",
    13: "crash",
    14: "wild-access",
    15: "integer-overflow",
    16: "shift",
    17: "no-progress",
    100: "threadgroup-memory",
    101: "threadgroup-size",
    102: "not-metal",
    103: "address-space",
}

UNDEFINED = {"misaligned", "private-bounds", "integer-overflow", "shift"}
"""Kinds that compilers detect; the first of them ends a run, which is then repeated to find those that follow."""

TOLERATED = ("unwritten-output", "uninitialized-read", "ended-lanes", "misaligned", "integer-overflow", "shift")
"""Kinds that kernels on a GPU often have without visible harm: `strict=False` records these without raising."""


_EXPLAINED = {
    "store-to-input": "stores to an input",
    "uninitialized-read": "reads memory that nobody has written",
    "race": "conflicts with an access of another thread, no barrier between",
    "cross-threadgroup": "conflicts with an access of another threadgroup; threadgroups run in any order",
    "divergent-barrier": "not all threads of the threadgroup reach this barrier",
    "divergent-simd": "not all lanes of the simdgroup reach this simd operation",
    "ended-lanes": "divergent simd operation: lanes of the simdgroup have ended and take no part in it",
    "unwritten-output": "bytes of the output are never written",
    "private-bounds": "index beyond an array",
    "crash": "the kernel crashed",
    "wild-access": "accesses memory that is none of the kernel's buffers",
}


@dataclass(frozen=True)
class Issue:
    """One fault, the first time it happened.

    `line` counts from 1 in the kernel's source, or in its header where `in_header`; 0 where no line is to blame.
    Threads are positions in the grid, offsets bytes from the buffer's start.
    """

    kind: str
    kernel: str
    line: int = 0
    in_header: bool = False
    buffer: str | None = None
    offset: int = 0
    size: int = 0
    write: bool = False
    thread: tuple[int, int, int] | None = None
    other_thread: tuple[int, int, int] | None = None
    other_line: int = 0
    count: int = 1
    detail: str = ""

    def __str__(self) -> str:
        place = f" at {'header ' if self.in_header else ''}line {self.line}" if self.line else ""
        text = f"{self.kernel}{place}: {self.kind}: "
        if self.kind == "out-of-bounds":
            text += "stores beyond the buffer" if self.write else "loads beyond the buffer"
        elif self.kind == "inactive-lane":
            text += f"reads lane {self.offset}, which takes no part"
        else:
            text += self.detail or _EXPLAINED.get(self.kind, "")
        if self.detail and self.detail not in text:
            text += f" ({self.detail})"
        if self.buffer is not None:
            text += f"; buffer {self.buffer}, byte {self.offset}, {self.size} bytes"
        if self.thread is not None:
            text += f"; thread {self.thread}"
        if self.other_thread is not None:
            other = f" line {located(self.other_line)[0]}" if self.other_line > 0 else ""
            text += f", other thread {self.other_thread}{other}"
        return text + (f"; {self.count} times" if self.count > 1 else "")


def located(line: int) -> tuple[int, bool]:
    """Return (line, whether it is the header's) of a line number of the translation unit."""
    return (line - HEADER_LINES, True) if line > HEADER_LINES else (line, False)


class KernelFault(RuntimeError):
    """A kernel did what Metal does not allow; `issues` lists all that was found."""

    def __init__(self, issues: list[Issue]) -> None:
        self.issues = issues
        more = f"\n... and {len(issues) - 8} more" if len(issues) > 8 else ""
        super().__init__("\n".join(str(issue) for issue in issues[:8]) + more)


@dataclass(frozen=True)
class Counters:
    """Bytes that one launch moved through one buffer, before any cache; `unique` bytes are counted once.

    `multi_writer` counts bytes that more than one thread stored to. Not a time model: coalescing, caches and arithmetic
    are not in it. The same for every run of a kernel built by one compiler version.
    """

    size: int
    loaded: int
    stored: int
    unique_loaded: int
    unique_stored: int
    multi_writer: int
