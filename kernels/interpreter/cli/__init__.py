"""`metal-check FILE...`: run Metal kernels on the CPU in check mode and say what is wrong with them.

A file holds the body of a kernel, as `mx.fast.metal_kernel` takes it, or whole `kernel void f(...)` functions. How to
launch it stands in the file itself, in comment lines that begin with `// check:`, or in the command line's options;
each `// check:` line is one launch:

    // check: --input a=float16[2,64] --output out=float16[2,64] --grid 128 --threadgroup 64 --template T=float16 N=4

Files that it names (headers, .npy) are looked for beside the kernel first; so is what the kernel includes in quotes.
Exit status: 0 all clean, 1 faults or results that are not the expected ones, 2 wrong usage or no compiler.
`python -m kernels.interpreter check FILE...` is the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from ..compiler import FP, METALS, CompilerError, compiler
from ..static_checks import lint
from ..threads import ManyThreads
from . import reports
from .checking import LaunchReport, check
from .kernel_file import UsageError, launch_lines
from .options import Parser, launch_options, launch_parser


def _parser() -> Parser:
    p = Parser(
        prog="metal-check",
        parents=[launch_parser()],
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a kernel's file")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 5], help="thread orders to try (default 0 1 5)")
    p.add_argument("--fp", nargs="+", choices=FP, default=["off"], help="floating-point modes to try (default off)")
    p.add_argument(
        "--metal",
        type=int,
        choices=tuple(METALS),
        default=3,
        help="language: 3 is C++14 (up to macOS 15), 4 is C++17 (from macOS 26 on); default 3",
    )
    p.add_argument("--lenient", action="store_true", help="do not fail on faults that GPUs often forgive")
    p.add_argument(
        "--registers",
        action="store_true",
        help="run nothing: registers, stack, loads and loops of the compiled code (needs clang 16 or later)",
    )
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return p


def _checked(args: argparse.Namespace) -> list[LaunchReport]:
    """Check all launches of all files; print each as it is done."""
    found = []
    for file in args.files:
        for line, text in launch_lines(file) or [(0, "")]:
            report = check(file, text, launch_options(file, line, text, args), args)
            found.append(report)
            if not args.json:
                print(reports.text(report), flush=True)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` and return its exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            warnings.simplefilter("ignore", ManyThreads)  # reports say it
            return _run(given[1:] if given[:1] == ["check"] else given)
    except BrokenPipeError:  # `metal-check ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UsageError, CompilerError, OSError, ValueError, MemoryError) as problem:
        print(f"error: {' '.join(str(problem).split()) or 'not enough memory for these arrays'}", file=sys.stderr)
        return 2


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _run(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    spaces = "checked by clang" if lint.clang() else "checked by name only: no clang 16 or later here"
    if not args.json:
        print(f"compiler: {compiler().version}; address spaces {spaces}")
    found = _checked(args)
    clean = all(report.clean for report in found)
    if args.json:
        head = {"clean": clean, "compiler": compiler().version, "address_spaces": spaces}
        print(json.dumps(head | {"launches": [reports.record(r) for r in found]}, indent=2, allow_nan=False))
    return 0 if clean else 1
