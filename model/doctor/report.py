"""The report as Markdown, to be read in a terminal and pasted into an issue."""

from __future__ import annotations

from collections.abc import Iterator

from kernels import OPERATIONS

from .examine import Backend, Report


def text(report: Report) -> str:
    """Write the whole report as Markdown, the verdict first."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    problems = report.problems
    ran = [b for b in report.backends if not b.reason]
    equal = "every operation and the short edit came out right on: " + ", ".join(b.name for b in ran)
    yield "## instruct-musicgen doctor"
    yield ""
    yield f"**{f'{len(problems)} operation(s) differ' if problems else equal}**"
    yield ""
    for problem in problems:
        yield f"- **{problem.backend}: {problem.operation}**: {problem.case}: {problem.problem}"
    if problems:
        yield ""
    device = ", ".join(f"{key} {value}" for key, value in report.hardware["device"].items())
    memory = report.hardware["memory"] / 2**30
    yield f"- machine: {report.hardware['processor']}, {report.hardware['cores']} cores, {memory:.1f} GiB ({device})"
    yield "- versions: " + ", ".join(f"{name} {number}" for name, number in report.versions.items())
    yield f"- memory: {report.memory['text']}"
    for backend in report.backends:
        yield f"- {backend.name}: " + (f"not here: {backend.reason}" if backend.reason else _ran(backend))
        yield from (f"  - warning: {warning}" for warning in backend.warnings)
    yield ""
    yield f"| relative error in float32 / float16 / bfloat16 | {' | '.join(b.name for b in ran)} |"
    yield "|---|" + "---|" * len(ran)
    for operation in OPERATIONS:
        yield f"| {operation} | {' | '.join(_cell(backend, operation) for backend in ran)} |"
    yield ""
    yield from _limits(report)


def _ran(backend: Backend) -> str:
    how = f"{backend.detail}; " if backend.detail else ""
    edit = backend.edit
    if edit is None:
        return f"{how}{backend.seconds:.0f} s"
    if any(problem.operation == "edit" for problem in edit.problems):
        outcome = "the short edit DIFFERS"
    elif edit.tie is not None:
        outcome = f"the short edit's tokens are the reference's up to position {edit.tie}, a near tie"
    else:
        outcome = f"the short edit of {edit.frames} frames has the reference's tokens"
    return f"{how}{outcome}, audio within {edit.sound:.1e} of the peak, {edit.calls} calls; {backend.seconds:.0f} s"


def _cell(backend: Backend, operation: str) -> str:
    wrong = sum(problem.operation == operation for problem in backend.problems)
    count = f"{backend.cases[operation]} cases"
    errors = " / ".join(f"{backend.error[operation][dtype]:.0e}" for dtype in ("float32", "float16", "bfloat16"))
    return f"**{wrong} wrong** ({count})" if wrong else f"{errors} ({count})"


def _limits(report: Report) -> Iterator[str]:
    """Tabulate the threads of a threadgroup: those launched, and the most that the pipeline takes."""
    if report.limits_note:
        yield f"Thread limits of Metal's pipelines: {report.limits_note}."
    if report.limits:
        yield ""
        yield "| Metal pipeline | threads launched | most it takes |"
        yield "|---|---|---|"
        for limit in report.limits:
            yield f"| {limit['kernel']} | {limit['threads']} | {limit['most'] or 'not told'} |"
