"""One launch of a kernel's file, run under every thread order and floating-point mode that was asked for."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..compiler import CompilerError
from ..faults import Counters, Issue, KernelFault
from ..kernel import MetalKernel, metal_kernel
from ..registers import NotMeasured, Shape, measure
from .kernel_file import KernelFile, UsageError, read_kernel
from .options import BufferOption, expectations, find, make_input, parse_buffer, parse_template, three

_TOLERANCE = {mx.float32: 1e-5, mx.float16: 2e-3, mx.bfloat16: 2e-2, mx.complex64: 1e-5}


@dataclass
class LaunchReport:
    """What one launch of a kernel showed."""

    file: Path
    launch: str
    faults: list[Issue] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)
    seed: int = 0  # of the run that was at fault
    fp: str = "off"
    compiler_error: str = ""
    order_matters: tuple[int, int] | None = None  # two seeds whose results differ
    differences: dict[str, float] = field(default_factory=dict)  # from --expect, over its largest magnitude
    tolerances: dict[str, float] = field(default_factory=dict)
    threadgroup_bytes: int = 0
    counters: dict[str, Counters] = field(default_factory=dict)
    kernel: KernelFile | None = None
    shape: Shape | None = None  # of the compiled code, with --registers

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        wrong = [name for name, value in self.differences.items() if not value <= self.tolerances[name]]
        return not (self.faults or self.compiler_error or self.order_matters or wrong)


def check(file: Path, text: str, options: argparse.Namespace, args: argparse.Namespace) -> LaunchReport:
    """Run one launch, or compile it alone with --registers. Raises UsageError if the options do not fit the kernel."""
    rng = np.random.default_rng(0)
    headers = [find(h, file.parent) for h in options.header]
    source = read_kernel(file, options.function, headers)
    outputs = [parse_buffer(o) for o in options.output]
    if not outputs:
        raise UsageError(f"{file} has no output; add a line `// check: --output out=float32[64] ...` or the option")
    inputs = _fitting(source, [make_input(i, file.parent, rng) for i in options.input], outputs)
    expected = expectations(options.expect, outputs, file.parent)
    grid, threadgroup = three(options.grid, "grid"), three(options.threadgroup, "threadgroup")
    template = [parse_template(t) for t in options.template]
    kernel = metal_kernel(
        re.sub(r"\W", "_", file.stem),
        [name for name, _ in inputs],
        [o.name for o in outputs],
        source.body,
        source.header,
        not options.strided,
        options.atomic_outputs,
    )
    report = LaunchReport(file, text, kernel=source)
    if args.registers:
        signature = kernel.signature([a for _, a in inputs], [o.dtype for o in outputs], template)
        try:
            report.shape = measure(signature, grid, threadgroup)
        except NotMeasured as e:
            raise UsageError(f"{file}: {e}") from None
        return report
    first: list[mx.array] | None = None
    for fp in args.fp:
        for seed in args.seeds:
            report.seed, report.fp = seed, fp
            try:
                result = kernel(
                    inputs=[a for _, a in inputs],
                    template=template,
                    grid=grid,
                    threadgroup=threadgroup,
                    output_shapes=[o.shape for o in outputs],
                    output_dtypes=[o.dtype for o in outputs],
                    init_value=options.init_value,
                    check=True,
                    strict=not args.lenient,
                    seed=seed,
                    fp=fp,
                    metal=args.metal,
                )
            except KernelFault as fault:
                report.faults = fault.issues
                return report
            except CompilerError as error:
                report.compiler_error = str(error)
                return report
            _note(report, kernel)
            _compare(report, outputs, result, expected, options.tolerance)
            if first is None:
                first = result
            elif fp == args.fp[0] and not all(mx.array_equal(a, b, equal_nan=True) for a, b in zip(first, result)):
                report.order_matters = args.seeds[0], seed
    return report


def _fitting(
    source: KernelFile, inputs: list[tuple[str, mx.array]], outputs: list[BufferOption]
) -> list[tuple[str, mx.array]]:
    """Return the inputs as a whole function takes them: all present, and single numbers where it takes a reference."""
    if source.buffers is None:
        return inputs
    given = {name for name, _ in inputs} | {o.name for o in outputs}
    wanted = dict(source.buffers)
    for names, what in (
        (sorted(wanted.keys() - given), "lacks an --input or --output for"),
        (sorted(given - wanted.keys()), "has no"),
    ):
        if names:
            raise UsageError(f"{source.path} {what} {', '.join(names)}; the kernel takes {', '.join(wanted)}")
    return [(name, a.reshape(()) if wanted[name] and a.size == 1 else a) for name, a in inputs]


def _note(report: LaunchReport, kernel: MetalKernel) -> None:
    report.warnings += [issue for issue in kernel.issues + kernel.advice if issue not in report.warnings]
    report.threadgroup_bytes, report.counters = kernel.threadgroup_bytes, kernel.counters


def _compare(
    report: LaunchReport,
    outputs: list[BufferOption],
    result: list[mx.array],
    expected: dict[str, Any],
    tolerance: float | None,
) -> None:
    """Note the largest difference of each output from what was expected."""
    for o, array in zip(outputs, result):
        if o.name not in expected:
            continue
        right = expected[o.name]
        wide: Any = np.complex128 if right.dtype.kind == "c" else np.float64
        a = np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array).astype(wide)
        b = right.astype(wide)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(all="ignore"):
            off = np.where(same, 0, np.abs(a - b))
            largest = np.abs(b[np.isfinite(b)]).max(initial=0)
            difference = float(off.max(initial=0) / (largest or 1.0))
        difference = difference if difference == difference else float("inf")
        report.differences[o.name] = max(report.differences.get(o.name, 0.0), difference)
        report.tolerances[o.name] = _TOLERANCE.get(o.dtype, 0.0) if tolerance is None else tolerance
