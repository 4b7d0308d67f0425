"""Run a compiled kernel: buffers in, outputs and, in check mode, what was found. Mirrors runtime/*.h."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .compiler import runtime_library
from .faults import KINDS, Counters, Issue, located

INPUT, OUTPUT = 0, 1
OK, TOO_MUCH_MEMORY = 0, 1

_UNDEFINED = "undefined behavior that the compiler saw, such as an index beyond a private array or a null pointer"
_CRASHES = {
    ord("/"): "integer division by zero",  # as the compiler's own check says
    signal.SIGFPE: "integer division by zero, or of the least number by -1",
    signal.SIGILL: _UNDEFINED,
    signal.SIGTRAP: _UNDEFINED,
}

_TWO_THREADS = ("race", "cross-threadgroup", "divergent-barrier", "divergent-simd", "ended-lanes")

LIMIT_VARIABLE = "INSTRUCT_MUSICGEN_INTERPRETER_SECONDS"

_lock = threading.Lock()  # the runtime runs one launch at a time


class _Launch(ctypes.Structure):
    _fields_ = (
        ("entry", ctypes.c_void_p),
        ("buffers", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("threadgroup", ctypes.c_uint * 3),
        ("seed", ctypes.c_uint),
        ("check", ctypes.c_uint),
        ("seconds", ctypes.c_uint),
        ("flush", ctypes.c_uint),
    )


class _Region(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("mapped", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
        ("element", ctypes.c_uint32),
        ("space", ctypes.c_int32),
        ("initialized", ctypes.c_int32),
        ("floating", ctypes.c_int32),
        ("loaded", ctypes.c_uint64),
        ("stored", ctypes.c_uint64),
        ("unique_loaded", ctypes.c_uint64),
        ("unique_stored", ctypes.c_uint64),
        ("multi_writer", ctypes.c_uint64),
    )


class _Issue(ctypes.Structure):
    _fields_ = (
        ("fault", ctypes.c_int32),
        ("line", ctypes.c_int32),
        ("region", ctypes.c_int32),
        ("write", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("size", ctypes.c_uint64),
        ("pc", ctypes.c_uint64),
        ("other_pc", ctypes.c_uint64),
        ("other_line", ctypes.c_int32),
        ("lanes", ctypes.c_uint32),
        ("thread", ctypes.c_uint32 * 3),
        ("group", ctypes.c_uint32 * 3),
        ("other_thread", ctypes.c_uint32 * 3),
        ("other_group", ctypes.c_uint32),
        ("count", ctypes.c_uint64),
    )


@dataclass
class Buffer:
    """Memory that the kernel sees: `size` bytes from `address`; its pointer argument is `offset` bytes further."""

    name: str
    address: int
    size: int
    element: int
    space: int
    offset: int = 0
    initialized: bool = False
    floating: bool = False


@dataclass
class Outcome:
    """The outcome of a launch."""

    issues: list[Issue]
    counters: dict[str, Counters]
    threadgroup_bytes: int


def limit() -> int:
    """Return the CPU seconds that a threadgroup may take before the launch is given up; 0 means no limit."""
    text = os.environ.get(LIMIT_VARIABLE, "30")
    if not text.isdigit():
        raise ValueError(f"{LIMIT_VARIABLE}={text!r} is not a number of whole seconds; use 30, or 0 for no limit")
    return int(text)


@functools.cache
def _runtime() -> ctypes.CDLL:
    runtime = ctypes.CDLL(str(runtime_library()), mode=ctypes.RTLD_GLOBAL)
    runtime.mtl_run.argtypes = [ctypes.POINTER(_Launch), ctypes.POINTER(ctypes.c_uint64)]
    runtime.mtl_check_begin.argtypes = [ctypes.POINTER(_Region), ctypes.c_uint]
    runtime.mtl_check_end.argtypes = [ctypes.c_uint, ctypes.c_int]
    runtime.mtl_check_issues.restype = ctypes.POINTER(_Issue)
    runtime.mtl_check_image.restype = ctypes.c_uint64
    runtime.mtl_check_threadgroup_regions.argtypes = [ctypes.POINTER(ctypes.POINTER(_Region))]
    return runtime


class Library:
    """A compiled kernel that is loaded into this process."""

    addr2line = "addr2line"

    def __init__(self, path: Path, name: str) -> None:
        _runtime()  # its functions are what the kernel's undefined symbols become
        self.path, self.name = path, name
        self._loaded = ctypes.CDLL(str(path))
        self._entry = ctypes.cast(self._loaded.mtl_entry, ctypes.c_void_p)
        self._lines: dict[int, int] = {}

    def run(
        self,
        buffers: Sequence[Buffer],
        grid: Sequence[int],
        threadgroup: Sequence[int],
        *,
        seed: int,
        check: bool,
        flush: bool = False,
    ) -> Outcome:
        """Run every threadgroup of a grid that counts threads.

        `flush` makes zeros of denormal single-precision numbers.
        """
        launch = _Launch()
        launch.grid[:], launch.threadgroup[:], launch.seed, launch.check = grid, threadgroup, seed, int(check)
        launch.seconds, launch.flush = limit(), int(flush)
        with _lock:
            return self._run(launch, buffers, check)

    def _run(self, launch: _Launch, buffers: Sequence[Buffer], check: bool) -> Outcome:
        runtime, count = _runtime(), len(buffers)
        runtime.mtl_check_clear()
        addresses = [b.address + b.offset for b in buffers]
        regions = (_Region * max(count, 1))()
        if check:
            for region, b in zip(regions, buffers):
                region.name, region.data, region.size = b.name.encode(), b.address, b.size
                region.element, region.space, region.initialized = b.element, b.space, int(b.initialized)
                region.floating = int(b.floating)
            if not runtime.mtl_check_begin(regions, count):
                raise MemoryError(f"kernel {self.name}: no address space to check {count} buffers in; use check=False")
            addresses = [region.mapped + b.offset for region, b in zip(regions, buffers)]
        pointers = (ctypes.c_void_p * max(count, 1))(*addresses)
        launch.entry, launch.buffers = self._entry, ctypes.cast(pointers, ctypes.c_void_p)
        used = ctypes.c_uint64()
        status = runtime.mtl_run(ctypes.byref(launch), ctypes.byref(used))
        names = [b.name for b in buffers]
        if check:
            runtime.mtl_check_end(count, int(status == OK))
            shared = ctypes.POINTER(_Region)()
            n = runtime.mtl_check_threadgroup_regions(ctypes.byref(shared))
            names += [shared[i].name.decode() for i in range(n)]
        found = runtime.mtl_check_issues()
        issues = self._named(found[: runtime.mtl_check_issue_count()], names, runtime.mtl_check_image())
        return self._outcome(buffers, list(regions) if check else [], status, used.value, issues)

    def _outcome(
        self, buffers: Sequence[Buffer], regions: Sequence[_Region], status: int, used: int, issues: list[Issue]
    ) -> Outcome:
        if status == TOO_MUCH_MEMORY:
            detail = f"{used} bytes of threadgroup memory; Metal has 32768"
            issues = [*issues, Issue("threadgroup-memory", self.name, detail=detail)]
        counters = {
            b.name: Counters(r.size, r.loaded, r.stored, r.unique_loaded, r.unique_stored, r.multi_writer)
            for b, r in zip(buffers, regions)
        }
        return Outcome(issues, counters, used)

    def _named(self, found: Sequence[_Issue], names: Sequence[str], image: int) -> list[Issue]:
        """Return the runtime's issues in words; `names` are the buffers', `image` where the kernel was loaded."""
        issues = [self._issue(i, names, image) for i in found]
        # An index beyond an array in threadgroup memory is seen twice: the access that follows tells the buffer.
        beyond = {(i.line, i.in_header) for i in issues if i.kind == "out-of-bounds"}
        return [i for i in issues if i.kind != "private-bounds" or (i.line, i.in_header) not in beyond]

    def _issue(self, i: _Issue, names: Sequence[str], image: int) -> Issue:
        line, in_header = located(i.line or self._line(i.pc, image))
        kind = KINDS.get(i.fault, f"fault {i.fault}")
        other_line = i.other_line or self._line(i.other_pc, image)
        other = tuple(i.other_thread) if kind in _TWO_THREADS else None
        detail = ""
        if kind == "crash":
            detail = _CRASHES.get(i.lanes, f"address {i.offset & (2**64 - 1):#x}")
        elif other_line == -1 and kind == "divergent-barrier":
            detail = "threads of the threadgroup have ended and never reach this barrier"
        elif kind == "private-bounds":
            detail = f"index {i.offset}"
        elif kind == "misaligned":
            detail = f"address is not a multiple of {i.size}, which the type needs"
        elif kind == "no-progress":
            detail = (
                f"ran for {i.size} s without its threadgroup coming to an end: an endless loop, or a wait for a thread "
                f"that Metal need not run meanwhile ({LIMIT_VARIABLE} sets the seconds, 0 for no limit)"
            )
        elif kind == "shift":
            detail = f"shifts {i.lanes} bits by {i.offset}"
        elif kind == "integer-overflow":
            right = ctypes.c_int64(i.size).value
            detail = f"{i.offset} {chr(i.lanes)} {right} does not fit the signed type"
        elif kind == "uninitialized-read" and i.write:
            detail = "stores a value that comes from a private variable before anything was assigned to it"
        return Issue(
            kind,
            self.name,
            line,
            in_header,
            names[i.region] if 0 <= i.region < len(names) else None,
            i.offset,
            i.size,
            bool(i.write),
            (i.thread[0], i.thread[1], i.thread[2]) if kind != "unwritten-output" else None,
            (other[0], other[1], other[2]) if other else None,
            max(other_line, 0),
            i.count,
            detail,
        )

    def _line(self, pc: int, image: int) -> int:
        """Return the line of the kernel's source or header that an instruction came from; 0 if unknown."""
        if not pc:
            return 0
        if pc not in self._lines:
            self._lines[pc] = _lookup(self.path, pc - image, self.addr2line)
        return self._lines[pc]


def _lookup(library: Path, address: int, addr2line: str) -> int:
    """Return the innermost inlined frame that lies in the kernel's own text.

    addr2line does not see all frames that clang inlines: where it finds none of the kernel's, llvm-symbolizer may.
    """
    symbolizers = (shutil.which(f"llvm-symbolizer{s}") for s in ("", "-16", "-19"))
    for tool, options in (
        (shutil.which(addr2line), ["-i"]),
        (next(filter(None, symbolizers), None), ["--inlines", "--output-style=GNU", "--no-demangle"]),
    ):
        if tool is None:
            continue
        command = [tool, *options, "-e", str(library), hex(address)]
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        for row in text.splitlines():
            file, _, line = row.split(" (")[0].rpartition(":")
            if Path(file).name in ("source", "header") and line.isdigit():
                return int(line)
    return 0
