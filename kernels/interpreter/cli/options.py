"""The options that say how to launch a kernel, on the command line or in a file's `// check:` lines."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import mlx.core as mx
import numpy as np

from ..frontend.signature import TemplateValue
from .kernel_file import UsageError

_BUFFER = re.compile(r"(\w+)=(\w+)\[([\d,\s]*)\](?:\*([-+]?[\d.]+(?:e[-+]?\d+)?))?")
_FILE = re.compile(r"(\w+)=(.+\.npy)")
_NICKNAMES = {"float": "float32", "half": "float16", "bfloat": "bfloat16", "bool": "bool_"}


class Parser(argparse.ArgumentParser):
    """A parser that raises its errors as UsageErrors: one line, from the command line and from a file alike."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with argparse's message."""
        raise UsageError(message)


@dataclass(frozen=True)
class BufferOption:
    """A buffer as an option names it: `NAME=DTYPE[SHAPE]`, with `*VALUE` where every element is VALUE."""

    name: str
    dtype: mx.Dtype
    shape: tuple[int, ...]
    value: float | None = None


def launch_parser() -> Parser:
    """Return the parser of one launch's options."""
    p = Parser(prog="// check:", add_help=False, allow_abbrev=False)
    p.add_argument(
        "--input",
        "-i",
        action="append",
        default=[],
        metavar="NAME=DTYPE[SHAPE][*VALUE] or NAME=FILE.npy",
        help="an input, in the kernel's order: random numbers (floats normal, integers from 0 up to 100), "
        "or VALUE everywhere, or a file's array",
    )
    p.add_argument("--output", "-o", action="append", default=[], metavar="NAME=DTYPE[SHAPE]", help="an output")
    p.add_argument("--grid", "-g", type=int, nargs="+", metavar="N", help="threads in x, y, z")
    p.add_argument("--threadgroup", "-t", type=int, nargs="+", metavar="N", help="threads of a threadgroup")
    p.add_argument("--template", nargs="+", default=[], metavar="NAME=VALUE", help="a dtype, an integer, true or false")
    p.add_argument("--header", action="append", default=[], metavar="FILE", help="file to put before the kernel")
    p.add_argument("--function", metavar="NAME", help="which kernel of a file with several whole functions")
    p.add_argument("--init-value", type=float, help="what outputs hold before the launch")
    p.add_argument("--atomic-outputs", action="store_true", help="outputs are atomics")
    p.add_argument(
        "--strided", action="store_true", help="pass inputs with their strides (ensure_row_contiguous=False)"
    )
    p.add_argument(
        "--expect", action="append", default=[], metavar="[NAME=]FILE.npy", help="the right output, to compare with"
    )
    p.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="largest difference from --expect allowed, over its largest magnitude (default: 1e-5 for "
        "float32, 2e-3 for float16, 2e-2 for bfloat16, 0 for integers)",
    )
    return p


def launch_options(file: Path, line: int, text: str, command_line: argparse.Namespace) -> argparse.Namespace:
    """Return the options of one `// check:` line; those of the command line take precedence.

    Raises UsageError with the file and the line.
    """
    try:
        options = launch_parser().parse_args(shlex.split(text))
    except ValueError as e:
        raise UsageError(f"{file}:{line}: {e}") from None
    for name, value in vars(launch_parser().parse_args([])).items():
        if (given := getattr(command_line, name)) != value:
            setattr(options, name, given)
    return options


def find(name: str, folder: Path) -> Path:
    """Return the path of a file that options name, looked for beside the kernel, then here. Raises UsageError."""
    for path in (folder / name, Path(name)):
        if path.is_file():
            return path
    raise UsageError(f"there is no file {name}, neither here nor in {folder}; check its name")


def parse_buffer(text: str) -> BufferOption:
    """Parse NAME=DTYPE[SHAPE] with an optional *VALUE."""
    match = _BUFFER.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is not NAME=DTYPE[SHAPE], such as x=float16[2,64], nor NAME=FILE.npy")
    name, dtype, shape, value = match.groups()
    sizes = tuple(int(n) for n in shape.split(",") if n.strip())
    return BufferOption(name, parse_dtype(dtype), sizes, float(value) if value else None)


def parse_dtype(name: str) -> mx.Dtype:
    """Return the MLX dtype of a name; Metal's names are known too. Raises UsageError for another."""
    value = getattr(mx, _NICKNAMES.get(name, name), None)
    if not isinstance(value, mx.Dtype):
        raise UsageError(f"{name!r} is not a dtype; use float32, float16, bfloat16, uint32, int8, bool, ...")
    return value


def make_input(text: str, folder: Path, rng: np.random.Generator) -> tuple[str, mx.array]:
    """Return (name, array) of an --input."""
    if match := _FILE.fullmatch(text):
        return match.group(1), load(find(match.group(2), folder))
    b = parse_buffer(text)
    if b.value is not None:
        return b.name, _filled(text, b, b.value)
    if mx.issubdtype(b.dtype, mx.floating):
        return b.name, mx.array(rng.normal(size=b.shape)).astype(b.dtype)
    return b.name, mx.array(rng.integers(0, 2 if b.dtype == mx.bool_ else 101, size=b.shape)).astype(b.dtype)


def _filled(text: str, b: BufferOption, value: float) -> mx.array:
    """Return an array of one value. Raises UsageError if its dtype has no such value."""
    if mx.issubdtype(b.dtype, mx.floating):
        return mx.full(b.shape, value, dtype=b.dtype)
    least, most = (0, 1) if b.dtype == mx.bool_ else (mx.iinfo(b.dtype).min, mx.iinfo(b.dtype).max)
    if not (value.is_integer() and least <= value <= most):
        raise UsageError(f"{text!r}: {b.dtype} holds whole numbers from {least} to {most}")
    # A float would make it an array of floats, whatever its dtype, and a bool needs the cast.
    return mx.full(b.shape, int(value), dtype=b.dtype).astype(b.dtype)


def load(path: Path) -> mx.array:
    """Return a .npy file's array. Raises UsageError, naming file and dtype, if MLX has no such array."""
    try:
        a = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as e:
        raise UsageError(f"{path} is not an array that can be read ({e}); save one array with numpy.save") from None
    if not isinstance(a, np.ndarray):
        raise UsageError(f"{path} holds several arrays; save one with np.save")
    if a.dtype.kind not in "biufc":
        raise UsageError(f"{path} holds {a.dtype}, which no Metal buffer can; save numbers, such as float32")
    if a.dtype.itemsize > 8 or (a.dtype.kind == "f" and a.dtype.itemsize == 8):
        raise UsageError(f"{path} holds {a.dtype}, which Metal lacks; save it as float32 or complex64")
    try:
        return mx.array(np.ascontiguousarray(a).astype(a.dtype.newbyteorder("=")).reshape(a.shape))
    except (RuntimeError, TypeError, ValueError) as e:
        raise UsageError(f"{path} holds {a.dtype}, a dtype that MLX does not have: {e}") from None


def expectations(texts: list[str], outputs: list[BufferOption], folder: Path) -> dict[str, Any]:
    """Return the expected value of each output that has one. Raises UsageError if a name or a shape does not fit."""
    found: dict[str, Any] = {}
    for text in texts:
        match = _FILE.fullmatch(text)
        name, file = match.groups() if match else (outputs[0].name, text)
        if match is None and len(outputs) > 1:
            raise UsageError(f"--expect {text}: there are several outputs; write NAME={text}")
        shapes = {b.name: b.shape for b in outputs}
        if name not in shapes:
            raise UsageError(f"--expect {text}: there is no output {name}; there is {', '.join(shapes)}")
        path = find(file, folder)
        try:
            value = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as e:
            raise UsageError(f"{path} is not an array that can be read ({e}); save one array with numpy.save") from None
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufc":
            raise UsageError(f"{path} does not hold one array of numbers; save one array with numpy.save")
        if value.shape != shapes[name]:
            raise UsageError(
                f"{path} has the shape {list(value.shape)}, output {name} has {list(shapes[name])}; save it in the "
                "output's shape"
            )
        found[name] = value
    return found


def parse_template(text: str) -> tuple[str, TemplateValue]:
    """Parse NAME=VALUE: a dtype, an integer, true or false."""
    name, _, value = text.partition("=")
    if not value:
        raise UsageError(f"{text!r} is not NAME=VALUE, such as T=float16 or N=4")
    if value in ("true", "false"):
        return name, value == "true"
    return name, int(value) if re.fullmatch(r"-?\d+", value) else parse_dtype(value)


def three(numbers: Sequence[int] | None, what: str) -> tuple[int, int, int]:
    """Return x, y and z of --grid or --threadgroup."""
    if not numbers or len(numbers) > 3:
        raise UsageError(f"--{what} needs one to three numbers, not {len(numbers or [])}; as in --{what} 64 8")
    x, y, z = [*numbers, 1, 1][:3]
    return x, y, z
