"""Read the assembly that clang writes for amdgcn: counts of a kernel, and of its innermost loops."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LABEL = re.compile(r"^(\.LBB\d+_\d+):(.*)$")
_BLOCK = re.compile(r"^; %bb\.\d+:(.*)$")
_INNER = re.compile(r"This Inner Loop Header: Depth=(\d+)")
_IN_LOOP = re.compile(r"in Loop: Header=(BB\d+_\d+) Depth=(\d+)")
_LOAD = re.compile(r"(?:global|flat)_load_(?:d16_)?(?:hi_)?([a-z]+\d+)")
_BYTES = {"b32": 4, "b64": 8, "b96": 12, "b128": 16, "b16": 2, "u8": 1, "i8": 1, "u16": 2, "i16": 2}
_WIDE_MULTIPLY = ("v_mad_u64_u32", "v_mad_i64_i32", "v_mul_hi_u32", "v_mul_hi_i32")
_META = {"registers": "vgpr_count", "spills": "vgpr_spill_count", "stack": "private_segment_fixed_size"}


@dataclass
class Counts:
    """Instructions of a piece of code by kind. Loads are those of buffers, by their bytes; a wait is one for loads."""

    instructions: int = 0
    blocks: int = 0
    branches: int = 0
    waits: int = 0
    wide_multiplies: int = 0  # of 64 bits
    stack_accesses: int = 0
    loads: dict[int, int] = field(default_factory=dict)

    def add(self, line: str) -> None:
        """Count one instruction."""
        word = line.split()[0]
        self.instructions += 1
        self.branches += word.startswith(("s_cbranch", "s_branch"))
        self.waits += word == "s_waitcnt" and "vmcnt" in line
        self.wide_multiplies += word in _WIDE_MULTIPLY
        self.stack_accesses += word.startswith(("scratch_", "buffer_load", "buffer_store"))
        if match := _LOAD.match(word):
            width = _BYTES.get(match.group(1), 4)
            self.loads[width] = self.loads.get(width, 0) + 1


@dataclass
class Loop(Counts):
    """An innermost loop."""

    header: str = ""
    loads_before_first_wait: int = 0


@dataclass
class Code(Counts):
    """A kernel's code. `registers` are a thread's 32-bit vector registers, `stack` bytes of memory for its arrays."""

    registers: int = 0
    spills: int = 0
    stack: int = 0
    loops: list[Loop] = field(default_factory=list)


def read(text: str) -> Code:
    """Count a kernel's assembly, which holds one function."""
    code = Code()
    for name, key in _META.items():
        match = re.search(rf"\.{key}:\s+(\d+)", text)
        setattr(code, name, int(match.group(1)) if match else 0)
    start = text.index("mtl_entry:")
    loop: Loop | None = None
    inner: dict[str, Loop] = {}
    waited = False
    lines = text[start:].splitlines()
    for i, row in enumerate(lines):
        if row.startswith(".Lfunc_end"):
            break
        label = _LABEL.match(row)
        if label or _BLOCK.match(row):
            notes = _notes(lines, i)
            loop = None
            if label and _INNER.search(notes):
                loop = inner[label.group(1).removeprefix(".L")] = Loop(header=label.group(1))
                code.loops.append(loop)
                waited = False
            elif match := _IN_LOOP.search(notes):
                loop = inner.get(match.group(1))
            code.blocks += 1
            if loop:
                loop.blocks += 1
            continue
        line = row.split(";")[0].strip()
        if not line or line.startswith(".") or line.endswith(":"):
            continue
        code.add(line)
        if loop:
            loop.add(line)
            waited = waited or (line.startswith("s_waitcnt") and "vmcnt" in line)
            if not waited and _LOAD.match(line.split()[0]):
                loop.loads_before_first_wait += 1
    return code


def _notes(lines: list[str], i: int) -> str:
    """Return the comments that belong to a label: behind it and alone on the lines that follow."""
    notes = lines[i]
    for row in lines[i + 1 :]:
        if not row.strip().startswith(";") or _BLOCK.match(row):
            break
        notes += row
    return notes
