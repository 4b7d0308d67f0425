"""The report of a check, for people and as JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ..faults import Issue
from ..registers import Shape
from .checking import LaunchReport

MAX_PRINTED = 8
"""Faults of a launch that are printed, at most; JSON has all."""


def text(report: LaunchReport) -> str:
    """Return a report's lines."""
    if report.shape is not None:
        return _shape_text(report, report.shape)
    file = report.file
    lines = []
    for issue in report.warnings:
        lines.append(f"{file}: warning: {_issue(report, issue)}")
    if report.compiler_error or report.faults:
        lines.append(f"{file}: seed {report.seed}, fp {report.fp}")
        lines += [report.compiler_error] if report.compiler_error else []
        lines += [_issue(report, issue) for issue in report.faults[:MAX_PRINTED]]
        if len(report.faults) > MAX_PRINTED:
            lines.append(f"... and {len(report.faults) - MAX_PRINTED} more")
        return "\n".join(lines)
    if report.order_matters:
        a, b = report.order_matters
        lines.append(f"{file}: seeds {a} and {b} give different results: the order of threads matters")
    for name, difference in report.differences.items():
        allowed = report.tolerances[name]
        verdict = "as expected" if difference <= allowed else "NOT as expected"
        lines.append(f"{file}: {name} {verdict}: largest difference {difference:.2g}, allowed {allowed:.2g}")
    if report.clean:
        lines.append(f"{file}: clean; {report.threadgroup_bytes} bytes of threadgroup memory")
        width = max(len(name) for name in report.counters)
        head = " ".join(f"{name:>12}" for name in ("bytes", "loaded", "of them once", "stored", "by several"))
        lines.append(f"  {'buffer':{width}} {head}")
        for name, c in report.counters.items():
            row = (c.size, c.loaded, c.unique_loaded, c.stored, c.multi_writer)
            lines.append(f"  {name:{width}} " + " ".join(f"{n:12}" for n in row))
    return "\n".join(lines)


def record(report: LaunchReport) -> dict[str, Any]:
    """Return a report as plain data for JSON."""
    return {
        "file": str(report.file),
        "launch": report.launch,
        "clean": report.clean,
        "seed": report.seed,
        "fp": report.fp,
        "faults": [_fields(report, issue) for issue in report.faults],
        "warnings": [_fields(report, issue) for issue in report.warnings],
        "compiler_error": report.compiler_error or None,
        "order_matters": list(report.order_matters) if report.order_matters else None,
        "expected": {
            name: {
                "difference": value if math.isfinite(value) else None,
                "allowed": report.tolerances[name],
                "right": value <= report.tolerances[name],
            }
            for name, value in report.differences.items()
        },
        "code": dataclasses.asdict(report.shape) if report.shape else None,
        "threadgroup_bytes": report.threadgroup_bytes,
        "buffers": {name: dataclasses.asdict(c) for name, c in report.counters.items()},
    }


def _shape_text(report: LaunchReport, shape: Shape) -> str:
    code = shape.code
    columns = f"{'blocks':>7} {'instructions':>13} {'branches':>9} {'waits':>6} {'64-bit multiplies':>18}"
    lines = [
        f"{report.file}: {shape.least_registers} registers without spilling ({code.registers} if it may choose), "
        f"{code.stack} bytes of stack ({shape.stack_if_little_is_unrolled} where little is unrolled); clang for amdgcn",
        f"  {'':8} {columns}  loads x bytes",
    ]
    for name, c in [("kernel", code), *((f"loop {i}", loop) for i, loop in enumerate(code.loops, 1))]:
        loads = ", ".join(f"{n} x {width}" for width, n in sorted(c.loads.items(), reverse=True)) or "none"
        counts = f"{c.blocks:7} {c.instructions:13} {c.branches:9} {c.waits:6} {c.wide_multiplies:18}"
        lines.append(f"  {name:8} {counts}  {loads}")
    return "\n".join(lines)


def _place(report: LaunchReport, issue: Issue) -> str:
    """Return FILE:LINE of a fault in a header."""
    return report.kernel.place(issue.line) if issue.in_header and report.kernel else ""


def _issue(report: LaunchReport, issue: Issue) -> str:
    place = _place(report, issue)
    return f"{issue} [{place}]" if place else str(issue)


def _fields(report: LaunchReport, issue: Issue) -> dict[str, Any]:
    fields = dataclasses.asdict(issue)
    place = _place(report, issue) or (f"{report.file}:{issue.line}" if issue.line and not issue.in_header else None)
    return fields | {"place": place, "message": str(issue)}
