"""Every check on every backend, in one record that can be printed or made JSON."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import mlx.core as mx

import kernels
from kernels import FUSED, tuning
from reference.contract import Ops

from . import judge, machine
from .cases import Case, cases
from .edit import EditCheck, compare
from .judge import Finding


@dataclass
class Backend:
    """The findings about one backend.

    `reason`: why it does not run here, else "". `error`: the largest relative error, by operation and dtype.
    """

    name: str
    reason: str = ""
    detail: str = ""
    cases: dict[str, int] = field(default_factory=dict)
    error: dict[str, dict[str, float]] = field(default_factory=dict)
    edit: EditCheck | None = None
    problems: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Report:
    """All that `doctor` found."""

    versions: dict[str, str]
    hardware: dict[str, Any]
    memory: dict[str, Any]
    backends: list[Backend]
    limits: list[dict[str, Any]]
    limits_note: str

    @property
    def problems(self) -> list[Finding]:
        """All backends' problems, the first of each operation first."""
        found = [problem for backend in self.backends for problem in backend.problems]
        firsts = {(p.backend, p.operation): p for p in reversed(found)}
        return [*reversed(firsts.values())]

    def json(self) -> dict[str, Any]:
        """Return a dict for JSON; `ok` is whether nothing differs."""
        return {"ok": not self.problems} | asdict(self)


def examine(names: Sequence[str], tell: Callable[[str], None]) -> Report:
    """Check `names` (backends), each against the definition of right; `tell` is given a line before each step.

    Should the process die in a driver, the last line told names the backend and the operation.
    """
    found = []
    for name in names:
        reason = kernels.available()[name]
        found.append(Backend(name, reason) if reason else _backend(name, tell))
    limits, note = _limits(tell) if "metal" in names else ([], "metal was not asked for")
    return Report(machine.versions(), machine.hardware(), machine.verdict(), found, limits, note)


def _backend(name: str, tell: Callable[[str], None]) -> Backend:
    ops, begun = kernels.load(name), time.perf_counter()
    found = Backend(name, detail=_detail(ops))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for operation, group in groupby(cases(), lambda case: case.operation):
            tell(f"{name}: {operation}")
            _operation(found, ops, operation, group)
        if name != "reference":
            tell(f"{name}: a short edit")
            found.edit = compare(ops)
            found.problems += found.edit.problems
    found.warnings = [" ".join(str(w.message).split()) for w in told]
    found.seconds = time.perf_counter() - begun
    return found


def _operation(found: Backend, ops: Ops, operation: str, group: Iterable[Case]) -> None:
    found.cases[operation], errors = 0, found.error.setdefault(operation, {})
    for case in group:
        finding = judge.call(ops, operation, case.arguments(), case.label)
        found.cases[operation] += 1
        dtype = str(case.dtype).rpartition(".")[2]
        errors[dtype] = max(errors.get(dtype, 0.0), finding.error)
        if finding.problem:
            found.problems.append(finding)


def _detail(ops: Ops) -> str:
    """Say how a backend runs here."""
    tuned = f"tuning: {tuning.status(ops.name)}" if ops.name in tuning.TUNED else ""
    if ops.name == "native":
        from kernels import native

        info = native.info()
        how = f"{info['isa']}, {info['threads']} threads, {info['activations']} activations, {info['caches']} caches"
        return f"{how}, {tuned}"
    return str(mx.default_device()) if ops.name == "reference" else tuned


def _limits(tell: Callable[[str], None]) -> tuple[list[dict[str, Any]], str]:
    """Return the threads that each Metal pipeline takes, of every kernel that the cases use."""
    if not mx.metal.is_available():
        return [], "no Metal GPU here"
    from kernels.metal import MetalOps
    from kernels.metal.limits import Measuring

    tell("metal: thread limits of the pipelines")
    engine = Measuring(mx.fast.metal_kernel)
    ops, failed = MetalOps("metal", engine), ""
    for case in cases():
        if case.operation in FUSED:
            try:
                mx.eval(getattr(ops, case.operation)(**case.arguments()))
            except Exception as e:  # the checks above have named it; here it must not hide the other kernels' limits
                failed = f"; {case.label}: {judge.explain(e)}"
    untold = sum(limit.most is None for limit in engine.limits)
    note = f"{untold} of {len(engine.limits)} pipelines: MLX did not tell" if untold else ""
    return [limit._asdict() for limit in engine.limits], (note + failed).lstrip("; ")
