"""`metal_kernel`: the constructor and the object of `mx.fast.metal_kernel`, run on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx

from . import threads
from .buffers import fact_buffer, input_buffer, output, output_buffer, result, view
from .compiler import FP, MATH_MODES, METALS, Compiler, CompilerError, Mode, build, compiler, remarks
from .faults import TOLERATED, UNDEFINED, Counters, Issue, KernelFault, located
from .frontend.signature import CONSTANT_BELOW, TYPE_NAMES, InputKind, Signature, TemplateValue, generate
from .frontend.translate import unit
from .launch import Library
from .static_checks import address_space, lint
from .static_checks.banned import banned

_Value = TypeVar("_Value", str, int)


@dataclass(frozen=True)
class _Variant:
    """A kernel compiled for one choice of dtypes, template values and mode."""

    signature: Signature
    library: Library
    lint: tuple[Issue, ...]  # of check mode


class MetalKernel:
    """A kernel made by `metal_kernel`; call it as the object that `mx.fast.metal_kernel` returns.

    After a call with `check=True`: `counters` hold the bytes moved through each buffer, `threadgroup_bytes` the
    threadgroup memory used, `issues` what was found. After any call `advice` holds what is not a fault, but runs on
    some chips only.
    """

    def __init__(
        self,
        name: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        source: str,
        header: str = "",
        ensure_row_contiguous: bool = True,
        atomic_outputs: bool = False,
        compile_options: Mapping[str, Any] | None = None,
        using: Compiler | None = None,
    ) -> None:
        if not output_names:
            raise ValueError(f"[metal_kernel] Must specify at least one output for kernel {name}.")
        self.math_mode = (compile_options or {}).get("math_mode", "safe")
        if self.math_mode not in MATH_MODES:
            raise ValueError(f"[metal_kernel] Unknown math_mode {self.math_mode!r}; use safe, relaxed or fast.")
        self.name, self.source, self.header = name, source, header
        self.input_names, self.output_names = list(input_names), list(output_names)
        self.ensure_row_contiguous, self.atomic_outputs = ensure_row_contiguous, atomic_outputs
        self._using = using
        self._variants: dict[Any, _Variant] = {}
        self._text_issues: list[Issue] | None = None
        self.issues: list[Issue] = []
        self.advice: list[Issue] = []
        self.counters: dict[str, Counters] = {}
        self.threadgroup_bytes = 0

    def __call__(
        self,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        template: Sequence[tuple[str, TemplateValue]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: Any = None,
        *,
        check: bool = False,
        strict: bool = True,
        seed: int = 0,
        fp: str = "off",
        metal: int = 3,
    ) -> list[mx.array]:
        """Run the kernel now and return the outputs; inputs are evaluated. `grid` counts threads.

        check: see every access (50 times slower or so) and raise KernelFault for what Metal forbids. strict=False
        only records the kinds in `faults.TOLERATED`. seed: the order in which threads, simdgroups and threadgroups
        run; results must not depend on it. fp: "off" rounds every operation, "contract" fuses multiply-adds as Metal
        may, "fast" allows all that fast math does; "metal" has fast functions as far off as Metal's specification
        allows, zeros in place of denormals, and the kernel's own math_mode. metal: the language, 3 (C++14, up to
        macOS 15) or 4 (C++17, from macOS 26 on). A warning tells of more than 384 threads, which some chips refuse.
        """
        del stream  # there is one: this thread
        arrays = [a if isinstance(a, mx.array) else mx.array(a) for a in inputs]
        self._check_call(arrays, output_shapes, output_dtypes, grid, threadgroup)
        mode = Mode(check, _one_of("fp", fp, FP), self.math_mode, _one_of("metal", metal, tuple(METALS)))
        mx.eval(arrays)
        kinds = tuple(InputKind(a.dtype, a.size < CONSTANT_BELOW, a.ndim == 0) for a in arrays)
        issues = [*self._forbidden(template or ())] if check else []
        try:
            variant = self._variant(kinds, tuple(output_dtypes), tuple(template or ()), mode)
        except CompilerError:
            if issues:  # what Metal lacks explains it better than the C++ compiler's words
                raise KernelFault(issues) from None
            raise
        issues += variant.lint
        if verbose:
            print(f"Generated source code for `{self.name}`:\n```\n{variant.signature.text}\n```")
        if beyond := threads.too_many(self.name, self.header + self.source, threadgroup):
            raise KernelFault([*issues, beyond])
        if advice := threads.many(self.name, self.header + self.source, threadgroup):
            warnings.warn(str(advice), threads.ManyThreads, stacklevel=2)
        self.advice = [advice] if advice else []
        # Behind both: MLX counts the threads as they are given, also where the grid has fewer.
        threadgroup = (min(threadgroup[0], grid[0]), min(threadgroup[1], grid[1]), min(threadgroup[2], grid[2]))
        views = [view(a, contiguous=self.ensure_row_contiguous) for a in arrays]
        for resume in (False, True):
            if resume:  # undefined behavior ended the run: once more, with all that follows
                mode = replace(mode, resume=True)
                variant = self._variant(kinds, tuple(output_dtypes), tuple(template or ()), mode)
            outputs = [output(shape, dtype, init_value) for shape, dtype in zip(output_shapes, output_dtypes)]
            keep: list[Any] = []
            buffers = [
                output_buffer(a.name, outputs[a.index], output_dtypes[a.index], initialized=init_value is not None)
                if a.role == "output"
                else input_buffer(a.name, views[a.index], arrays[a.index].dtype)
                if a.role == "input"
                else fact_buffer(a.name, a.role, views[a.index], keep)
                for a in variant.signature.arguments
            ]
            outcome = variant.library.run(buffers, grid, threadgroup, seed=seed, check=check, flush=fp == "metal")
            if not any(issue.kind in UNDEFINED for issue in outcome.issues):
                break
        self.issues = [*issues, *outcome.issues]
        self.counters, self.threadgroup_bytes = outcome.counters, outcome.threadgroup_bytes
        raised = [i for i in self.issues if strict or i.kind not in TOLERATED]
        if raised:
            raise KernelFault(raised)
        return [result(o, dtype) for o, dtype in zip(outputs, output_dtypes)]

    def signature(
        self,
        inputs: Sequence[mx.array],
        output_dtypes: Sequence[mx.Dtype],
        template: Sequence[tuple[str, TemplateValue]] = (),
    ) -> Signature:
        """Return the source that MLX would generate for these arguments."""
        kinds = tuple(InputKind(a.dtype, a.size < CONSTANT_BELOW, a.ndim == 0) for a in inputs)
        return self._signature(kinds, tuple(output_dtypes), tuple(template))

    def _signature(
        self,
        kinds: tuple[InputKind, ...],
        dtypes: tuple[mx.Dtype, ...],
        template: tuple[tuple[str, TemplateValue], ...],
    ) -> Signature:
        return generate(
            self.name,
            self.header,
            self.source,
            self.input_names,
            kinds,
            self.output_names,
            dtypes,
            template,
            self.atomic_outputs,
        )

    def _variant(
        self,
        kinds: tuple[InputKind, ...],
        dtypes: tuple[mx.Dtype, ...],
        template: tuple[tuple[str, TemplateValue], ...],
        mode: Mode,
    ) -> _Variant:
        key = (kinds, dtypes, tuple((n, type(v), v) for n, v in template), mode)
        variant = self._variants.get(key)
        if variant is None:
            using = self._using or compiler()
            signature = self._signature(kinds, dtypes, template)
            if signature.ends_early:
                raise CompilerError(
                    f"kernel {self.name}: MLX generates source that does not compile for several outputs with an "
                    "input's shape, strides or ndim and no thread attribute; mention one, such as "
                    "thread_position_in_grid"
                )
            text = unit(signature, check=mode.check, atomic_outputs=self.atomic_outputs)
            path = build(text, using.flags(mode), using, name=signature.name)
            found = (*self._linted(signature), *self._warned(path)) if mode.check else ()
            variant = self._variants[key] = _Variant(signature, Library(path, self.name), found)
        return variant

    def _linted(self, signature: Signature) -> tuple[Issue, ...]:
        """Return clang's errors about address spaces; none if there is no clang."""
        clang = lint.clang()
        if clang is None:
            return ()
        found = []
        for at, detail in lint.lint(signature, clang):
            line, in_header = located(at)
            found.append(Issue("address-space", self.name, line, in_header, detail=detail))
        return tuple(found)

    def _warned(self, library: Path) -> Iterator[Issue]:
        """Yield the variables that the compiler saw used before anything was assigned to them."""
        for at, detail in remarks(library):
            line, in_header = located(at)
            yield Issue("uninitialized-read", self.name, line, in_header, detail=detail)

    def _forbidden(self, template: Sequence[tuple[str, TemplateValue]]) -> list[Issue]:
        """Return the uses of what Metal lacks."""
        if self._text_issues is None:
            self._text_issues = [
                Issue("not-metal", self.name, line, in_header, detail=detail)
                for text, in_header in ((self.source, False), (self.header, True))
                for line, detail in banned(text, body=not in_header)
            ]
            types = address_space.declarations(self.header)
            types |= {name for name, value in template if isinstance(value, mx.Dtype)}
            self._text_issues += [
                Issue("address-space", self.name, line, in_header, detail=detail)
                for text, in_header in ((self.source, False), (self.header, True))
                for line, detail in address_space.missing(text, types)
            ]
        return self._text_issues

    def _check_call(
        self,
        inputs: Sequence[mx.array],
        shapes: Sequence[Sequence[int]],
        dtypes: Sequence[mx.Dtype],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
    ) -> None:
        if len(inputs) != len(self.input_names):
            raise ValueError(
                f"[metal_kernel] Expected `inputs` to have size {len(self.input_names)} but got size {len(inputs)}."
            )
        for what, given in (("output_shapes", shapes), ("output_dtypes", dtypes)):
            if len(given) != len(self.output_names):
                raise ValueError(
                    f"[metal_kernel] Expected `{what}` to have size {len(self.output_names)} but got size {len(given)}."
                )
        for what, size in (("grid", grid), ("threadgroup", threadgroup)):
            if len(size) != 3 or any(n < 1 for n in size):
                raise ValueError(f"[metal_kernel] {what}={tuple(size)} must be three numbers of at least 1")
        for dtype in (*(a.dtype for a in inputs), *dtypes):
            if dtype not in TYPE_NAMES:
                raise ValueError(f"[metal_kernel] Metal has no {dtype}; use another dtype, such as float32")


def _one_of(name: str, value: _Value, known: Sequence[_Value]) -> _Value:
    if value not in known:
        raise ValueError(f"[metal_kernel] {name}={value!r} is not known; use one of {', '.join(map(str, known))}")
    return value


def metal_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    atomic_outputs: bool = False,
    compile_options: Mapping[str, Any] | None = None,
) -> MetalKernel:
    """Return a kernel from the body of a Metal function, as `mx.fast.metal_kernel` makes it, to run on the CPU."""
    return MetalKernel(
        name, input_names, output_names, source, header, ensure_row_contiguous, atomic_outputs, compile_options
    )
