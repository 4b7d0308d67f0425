"""`python -m kernels.interpreter check FILE...`: run kernels in check mode and say what is wrong with them.

A file holds the body of a kernel, as `mx.fast.metal_kernel` takes it. How to launch it stands in the file itself, in
comment lines that begin with `// check:`, or in the command line's options; each `// check:` line is one launch:

    // check: --input a=float16[2,64] --output out=float16[2,64] --grid 128 --threadgroup 64 --template T=float16 N=4
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from .compiler import CompilerError, compiler
from .faults import KernelFault
from .frontend.signature import TemplateValue
from .kernel import FP, MetalKernel, metal_kernel
from .static_checks import lint

_BUFFER = re.compile(r"(\w+)=(?:(\w+)\[([\d,\s]*)\](?:\*?([-\d.e+]+))?|(.+\.npy))")
_NICKNAMES = {"float": "float32", "half": "float16", "bfloat": "bfloat16", "bool": "bool_"}
_LAUNCH = re.compile(r"^\s*//\s*check:(.*)$", re.MULTILINE)


def _options() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="// check:", add_help=False)
    p.add_argument("--input", "-i", action="append", default=[], metavar="NAME=DTYPE[SHAPE] or NAME=FILE.npy",
                   help="an input: random numbers (floats normal, integers from 0 up to 100), in the kernel's order")
    p.add_argument("--output", "-o", action="append", default=[], metavar="NAME=DTYPE[SHAPE]")
    p.add_argument("--grid", "-g", type=int, nargs="+", metavar="N", help="threads in x, y, z")
    p.add_argument("--threadgroup", "-t", type=int, nargs="+", metavar="N")
    p.add_argument("--template", nargs="+", default=[], metavar="NAME=VALUE", help="a dtype, an integer, true or false")
    p.add_argument("--header", action="append", default=[], type=Path, help="file to put before the kernel")
    p.add_argument("--init-value", type=float)
    p.add_argument("--atomic-outputs", action="store_true")
    p.add_argument("--strided", action="store_true", help="ensure_row_contiguous=False")
    return p


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kernels.interpreter", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser(
        "check", parents=[_options()], help="run kernels in check mode",
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("files", nargs="+", type=Path, metavar="FILE")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 5], help="thread orders to try (default 0 1 5)")
    p.add_argument("--fp", nargs="+", choices=FP, default=["off"], help="floating-point modes to try (default off)")
    p.add_argument("--lenient", action="store_true", help="strict=False: see README.md")
    return parser


class _UsageError(ValueError):
    pass


def _dtype(name: str) -> mx.Dtype:
    value = getattr(mx, _NICKNAMES.get(name, name), None)
    if not isinstance(value, mx.Dtype):
        raise _UsageError(f"{name!r} is no dtype; use float32, float16, bfloat16, uint32, int8, bool, ...")
    return value


def _buffer(text: str) -> tuple[str, mx.Dtype | None, tuple[int, ...], str]:
    match = _BUFFER.fullmatch(text)
    if not match:
        raise _UsageError(f"{text!r} is not NAME=DTYPE[SHAPE], such as x=float16[2,64], nor NAME=FILE.npy")
    name, dtype, shape, _, path = match.groups()
    sizes = tuple(int(n) for n in (shape or "").split(",") if n.strip())
    return name, _dtype(dtype) if dtype else None, sizes, path or ""


def _input(text: str, rng: np.random.Generator) -> tuple[str, mx.array]:
    name, dtype, shape, path = _buffer(text)
    if dtype is None:
        return name, mx.array(np.load(path))
    if mx.issubdtype(dtype, mx.floating):
        return name, mx.array(rng.normal(size=shape)).astype(dtype)
    return name, mx.array(rng.integers(0, 2 if dtype == mx.bool_ else 101, size=shape)).astype(dtype)


def _template(text: str) -> tuple[str, TemplateValue]:
    name, _, value = text.partition("=")
    if not value:
        raise _UsageError(f"{text!r} is not NAME=VALUE, such as T=float16 or N=4")
    if value in ("true", "false"):
        return name, value == "true"
    return name, int(value) if re.fullmatch(r"-?\d+", value) else _dtype(value)


def _three(numbers: Sequence[int] | None, what: str) -> tuple[int, int, int]:
    if not numbers or len(numbers) > 3:
        raise _UsageError(f"--{what} needs one to three numbers")
    x, y, z = [*numbers, 1, 1][:3]
    return x, y, z


def _check(file: Path, options: argparse.Namespace, args: argparse.Namespace) -> bool:
    """Runs one launch under every seed and mode; prints what is found. Is it clean?"""
    rng = np.random.default_rng(0)
    inputs = [_input(text, rng) for text in options.input]
    outputs = [_buffer(text) for text in options.output]
    if not outputs:
        raise _UsageError(f"{file} has no output; add a line `// check: --output out=float32[64] ...` or the option")
    kernel = metal_kernel(
        re.sub(r"\W", "_", file.stem), [name for name, _ in inputs], [o[0] for o in outputs], file.read_text(),
        "\n".join(h.read_text() for h in options.header), not options.strided, options.atomic_outputs,
    )
    first: list[mx.array] | None = None
    clean = True
    for fp in args.fp:
        for seed in args.seeds:
            try:
                result = kernel(
                    inputs=[a for _, a in inputs], template=[_template(t) for t in options.template],
                    grid=_three(options.grid, "grid"), threadgroup=_three(options.threadgroup, "threadgroup"),
                    output_shapes=[o[2] for o in outputs], output_dtypes=[o[1] for o in outputs if o[1] is not None],
                    init_value=options.init_value, check=True, strict=not args.lenient, seed=seed, fp=fp,
                )
            except (KernelFault, CompilerError) as fault:
                print(f"{file}: seed {seed}, fp {fp}\n{fault}")
                return False
            for issue in kernel.issues:
                print(f"{file}: warning: {issue}")
            if first is None:
                first = result
            elif fp == args.fp[0] and not all(mx.array_equal(a, b, equal_nan=True) for a, b in zip(first, result)):
                print(f"{file}: seeds {args.seeds[0]} and {seed} give different results: the order of threads matters")
                clean = False
    if clean:
        _print_counters(file, kernel)
    return clean


def _print_counters(file: Path, kernel: MetalKernel) -> None:
    print(f"{file}: clean; {kernel.threadgroup_bytes} bytes of threadgroup memory")
    width = max(len(name) for name in kernel.counters)
    print(f"  {'buffer':{width}} {'bytes':>12} {'loaded':>12} {'of them once':>12} {'stored':>12} {'by several':>12}")
    for name, c in kernel.counters.items():
        print(f"  {name:{width}} {c.size:12} {c.loaded:12} {c.unique_loaded:12} {c.stored:12} {c.multi_writer:12}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all clean, 1 faults, 2 wrong usage or no compiler."""
    args = _parser().parse_args(argv)
    try:
        spaces = "checked by clang" if lint.clang() else "checked by name only: no clang 16 or later here"
        print(f"compiler: {compiler().version}; address spaces {spaces}")
        clean = True
        for file in args.files:
            launches = [shlex.split(text) for text in _LAUNCH.findall(file.read_text())]
            for launch in launches or [[]]:
                options = _options().parse_args(launch)
                for name, value in vars(_options().parse_args([])).items():
                    if (given := getattr(args, name)) != value:  # the command line wins
                        setattr(options, name, given)
                clean &= _check(file, options, args)
        return 0 if clean else 1
    except (_UsageError, CompilerError, OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
