"""Compile C++ into shared libraries, once: clang 16 or later, or g++ 12 (on aarch64 13) or later.

Libraries are kept in a user cache folder under a hash of all that they depend on. Each is written under a name of its
own and renamed, so that processes compiling the same kernel at once don't disturb each other.
INSTRUCT_MUSICGEN_INTERPRETER_CXX chooses the compiler, INSTRUCT_MUSICGEN_INTERPRETER_CACHE the folder.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .cache import cache_folder

HERE = Path(__file__).parent
CANDIDATES = ("clang++", *(f"clang++-{n}" for n in range(22, 15, -1)), "g++", *(f"g++-{n}" for n in range(16, 11, -1)))
OLDEST = {"clang": 16, "gcc": 12 if platform.machine().lower() in ("x86_64", "amd64") else 13}  # with _Float16
FP = ("off", "contract", "fast", "metal")
"""Floating-point modes. "off" rounds every operation, "contract" fuses multiply-adds as Metal may, "fast" allows all
that fast math does; "metal" has the fast functions' errors and flushes denormals."""
_CONTRACTION = {"off": ["-ffp-contract=off"], "contract": ["-ffp-contract=fast"], "fast": ["-ffast-math"]}
MATH_MODES = {"safe": [], "relaxed": ["-ffast-math", "-fno-finite-math-only"], "fast": ["-ffast-math"]}
"""The compiler's options for MLX's `compile_options["math_mode"]`. They count in the floating-point mode "metal"."""
METALS = {3: 14, 4: 17}
"""The C++ standard that each version of Metal is: 3 up to macOS 15, 4 from macOS 26 on."""

HEADER_LINES = 1_000_000
"""An offset of the line numbers of a kernel's header, so that a line tells which of the two texts it is in."""

_UNINITIALIZED = re.compile(
    r"^(?:source|header):(\d+):.*warning: ((?!.*may be used).*uninitialized.*) \[-W", re.MULTILINE
)
_HEADER_LINE = re.compile(r"\bheader:(\d{7,}):")


class CompilerError(RuntimeError):
    """There is no compiler, or a kernel does not compile; the message says which and what to do."""


@dataclass(frozen=True)
class Mode:
    """The way in which a kernel is compiled.

    `check` instruments every access; `fp` is one of FP, `math_mode` one of MATH_MODES, `metal` one of METALS. With
    `resume` a launch continues after undefined behavior; its counters may then include loads that the compiler would
    otherwise optimize away.
    """

    check: bool = False
    fp: str = "off"
    math_mode: str = "safe"
    metal: int = 3
    resume: bool = False


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that can build kernels: path, "gcc" or "clang", and its version line."""

    path: str
    family: str
    version: str

    def flags(self, mode: Mode) -> list[str]:
        """Return the compiler's options for a kernel."""
        flags = [*self._language(mode.metal), "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"]
        if not mode.check:
            flags.append("-w")
        elif self.family == "gcc":
            flags.append("-Wuninitialized")
        else:
            # Private floats that nobody sets are NaN, of a pattern that the runtime knows.
            flags += ["-Wno-everything", "-Wuninitialized", "-Wsometimes-uninitialized"]
            flags.append("-ftrivial-auto-var-init=pattern")
        # Check mode reports an overflow, and goes on with the value that wraps as well.
        flags += [] if mode.check else ["-fwrapv"]
        # What never ends, and what reaches memory at 0, stays in the code and is found when it runs.
        flags += ["-fno-finite-loops", "-fno-delete-null-pointer-checks"]
        flags += ["-fno-strict-aliasing", "-fsigned-char", "-ftemplate-depth=2000"]
        flags += [*_machine(), *self._floating_point(mode)]
        flags.append("-Wno-narrowing")  # Metal's vectors take any numbers in braces
        if self.family == "gcc":
            flags += ["-fsingle-precision-constant", "-fno-tree-loop-distribute-patterns", "-fexcess-precision=16"]
        else:
            flags += ["-fbracket-depth=2000", *(["-Xclang", "-ffloat16-excess-precision=none"] if _x86() else [])]
        if mode.check:
            lines = "-gline-tables-only" if self.family == "clang" else "-g1"
            # Clang does not instrument a load that a store to the same place follows; check mode must see it.
            every = ["-mllvm", "-tsan-instrument-read-before-write=1"] if self.family == "clang" else []
            undefined = "bounds,alignment,shift-exponent,signed-integer-overflow,integer-divide-by-zero"
            sanitizers = f"-fsanitize=thread,{undefined}"
            # A check that may go on keeps the compiler from merging a load before it with one after it.
            ends = [] if mode.resume else [f"-fno-sanitize-recover={undefined}"]
            return [*flags, "-O1", lines, sanitizers, *ends, *every]
        return [*flags, "-O2"]

    def _language(self, metal: int) -> list[str]:
        """Return the options for the language that Metal is: clang's C++ of that year, with what clang adds to it."""
        version = [f"-DMTL_METAL_VERSION={'310' if metal == 3 else '400'}"]
        if self.family == "clang":
            return [f"-std=c++{METALS[metal]}", *version]
        # g++ reads hexadecimal floats, as clang does, only with GNU extensions, which define `linux` and `unix`.
        return [f"-std=gnu++{METALS[metal]}", "-Ulinux", "-Uunix", *version]

    def _floating_point(self, mode: Mode) -> list[str]:
        if mode.fp != "metal":
            return _CONTRACTION[mode.fp]
        # Metal fuses within a statement; g++ 12 can only fuse everywhere or nowhere.
        fused = "-ffp-contract=on" if self.family == "clang" else "-ffp-contract=fast"
        return ["-DMTL_FP_METAL", fused, *MATH_MODES[mode.math_mode]]


def _x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


@functools.cache
def _machine() -> list[str]:
    """Return the options for this processor: x86-64-v3 where it has that, whose conversions of halves matter most."""
    if not _x86():
        return []
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return ["-msse4.2"]
    return ["-march=x86-64-v3"] if {"avx2", "fma", "f16c", "bmi2"} <= words else ["-msse4.2"]


@functools.cache
def compilers() -> tuple[Compiler, ...]:
    """Return the compilers here that are new enough, at most one clang and one g++, clang first."""
    chosen = os.environ.get("INSTRUCT_MUSICGEN_INTERPRETER_CXX")
    found: dict[str, Compiler] = {}
    for name in (chosen,) if chosen else CANDIDATES:
        path = shutil.which(name)
        if path is None:
            continue
        text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        line = text.splitlines()[0] if text else ""
        family = "clang" if "clang" in line.lower() else "gcc"
        number = re.search(r"(\d+)\.\d+", re.sub(r"\(.*?\)", "", line)) or re.search(r"(\d+)\.\d+", line)
        if number and int(number.group(1)) >= OLDEST[family] and family not in found:
            found[family] = Compiler(path, family, line)
    return tuple(found[f] for f in ("clang", "gcc") if f in found)


def compiler() -> Compiler:
    """Return the compiler that builds kernels: clang if one is new enough, else g++.

    Raises CompilerError if there is none.
    """
    if not compilers():
        raise CompilerError(
            "the interpreter compiles kernels and found no C++ compiler; "
            f"install g++ {OLDEST['gcc']} or later or clang {OLDEST['clang']} or later "
            "(Debian: apt-get install g++), or name one in INSTRUCT_MUSICGEN_INTERPRETER_CXX"
        )
    return compilers()[0]


@functools.cache
def stdlib_hash() -> str:
    """Return the hash of the C++ beside this file, on which everything compiled or linted depends."""
    digest = hashlib.sha256()
    folders = (HERE / "metal_stdlib", HERE / "runtime")
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def build(text: str, flags: list[str], using: Compiler, *, name: str) -> Path:
    """Return the library of a translation unit, compiled unless the cache has it.

    Raises CompilerError, with the compiler's messages, if it does not compile.
    """
    key = hashlib.sha256("\0".join([using.version, using.path, *flags, stdlib_hash(), text]).encode()).hexdigest()[:32]
    folder = cache_folder()
    library = folder / f"{name[:80]}-{key}.so"
    if library.exists():
        return library
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as scratch:
        source, object_file, out = (Path(scratch) / f"kernel.{e}" for e in ("cpp", "o", "so"))
        source.write_text(text)
        include = ["-I", str(HERE / "metal_stdlib")]
        said = _run([using.path, *flags, *include, "-c", str(source), "-o", str(object_file)], name)
        warned = [m.group() for m in _UNINITIALIZED.finditer(said)]
        if warned:
            (Path(scratch) / "warnings").write_text("\n".join(warned))
            os.replace(Path(scratch) / "warnings", library.with_suffix(".txt"))
        # Linked without the sanitizers' libraries: the runtime answers their calls.
        undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
        _run([using.path, "-shared", *undefined, str(object_file), "-o", str(out)], name)
        os.replace(out, library)
    return library


def remarks(library: Path) -> list[tuple[int, str]]:
    """Return (line of the translation unit, message) of what the compiler remarked on a checked kernel."""
    try:
        text = library.with_suffix(".txt").read_text()
    except FileNotFoundError:
        return []
    return [(int(line), message) for line, message in _UNINITIALIZED.findall(text)]


def _run(command: list[str], name: str) -> str:
    """Run a compiler and return its messages."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        text = _HEADER_LINE.sub(lambda m: f"header:{int(m.group(1)) - HEADER_LINES}:", done.stderr)
        errors = [line for line in text.splitlines() if "error" in line or "undefined" in line] or [text]
        raise CompilerError(f"kernel {name} does not compile:\n" + "\n".join(errors[:20]))
    return done.stderr


def runtime_library() -> Path:
    """Return the scheduler and the checks, compiled."""
    using = compiler()
    flags = ["-std=c++17", "-O2", "-fPIC", "-fno-strict-aliasing", "-fno-exceptions", "-g1"]
    flags += ["-I", str(HERE / "runtime")]
    text = (HERE / "runtime" / "runtime.cpp").read_text()
    return build(text, flags, using, name="runtime")
