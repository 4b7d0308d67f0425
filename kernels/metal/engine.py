"""Kernels made from their source, to be called: by MLX on a GPU or by the interpreter. Nothing else chooses."""

from __future__ import annotations

import functools
import pathlib
import re
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import mlx.core as mx

from .choices import Choices

SOURCES = pathlib.Path(__file__).parent / "source"
SIMD = 32

Constants = tuple[tuple[str, "mx.Dtype | int"], ...]

NOT_COMPILED = "Unable to build metal library"
"""The beginning of MLX's message where Metal does not compile a kernel's source."""
_recorded: ContextVar[dict[Any, Launch] | None] = ContextVar("_recorded", default=None)

_METAL_TYPES = {mx.float16: "float16_t", mx.bfloat16: "bfloat16_t", mx.float32: "float"}
_DTYPE_NAMES = {mx.float16: "f16", mx.bfloat16: "bf16", mx.float32: "f32", mx.int32: "i32", mx.uint32: "u32"}


@dataclass(frozen=True)
class Launch:
    """One launch of the kernel in `file`, which makes one array.

    `constants` are types and numbers that the source knows when it is compiled. A threadgroup has either `threads`
    threads, or `simdgroups` simdgroups where the kernel takes their number as the constant SIMDGROUPS: then the engine
    may run it with fewer. `grid` counts threadgroups; where `along_x` is "simdgroups", its x counts simdgroups' worth
    of work, which the engine divides among threadgroups.
    """

    file: str
    inputs: Mapping[str, mx.array]
    output: str
    shape: tuple[int, ...]
    dtype: mx.Dtype
    constants: Constants
    grid: tuple[int, int, int]
    threads: int = 0
    simdgroups: int = 0
    along_x: Literal["threadgroups", "simdgroups"] = "threadgroups"
    headers: Sequence[str] = ()
    defines: Mapping[str, bool] = field(default_factory=dict)
    contiguous: bool = True

    @property
    def variant(self) -> tuple[Any, ...]:
        """Everything that the compiled source depends on, except the number of simdgroups that it ends up with."""
        dtypes = tuple(a.dtype for a in self.inputs.values())
        switches = tuple(self.defines.items())
        return self.file, self.constants, self.threads, self.simdgroups, switches, tuple(self.inputs), dtypes


class Refused(RuntimeError):
    """A GPU's pipeline takes no threadgroup that the kernel can run with, or Metal does not compile the kernel."""


PlanT = TypeVar("PlanT")
Bound = Callable[..., list[mx.array]]
"""A launch that is ready for inputs: `bound(inputs=[...])`."""
Plans = dict[Hashable, Any]
"""Functions that compute calls of an operation, by all that the computation depends on except the values of arrays."""


class Engine:
    """A builder of kernels: it makes each once, and binds it for launches of one kind.

    An operation plans each kind of call once (`known`, `keep`): its arguments are checked, and its launches bound, when
    the plan is made. `plans` are those that belong to no matrix; `state` stands for the choices in other keys.

    `build` is `mx.fast.metal_kernel` or `interpreter.metal_kernel`; `options` go along with every launch (the
    interpreter's check, seed and fp). With `probe`, each variant runs once, on zeros, when it is first used: a pipeline
    that takes fewer threads than the launch has is found there, where it can be answered with fewer simdgroups or with
    stock MLX, and not in the middle of a lazy graph.
    """

    def __init__(
        self, build: Callable[..., Any], options: Mapping[str, Any] | None = None, *, probe: bool = False,
        choices: Choices | None = None,
    ) -> None:  # fmt: skip
        self.choices = choices or Choices()
        self._build = build
        self._options = dict(options or {})
        self._probe = probe
        self._kernels: dict[Any, tuple[Any, int]] = {}
        self._refused: set[Any] = set()
        self.plans: Plans = {}
        self.state = object()

    def choose(self, choices: Choices) -> None:
        """Change the choices, on which every plan depends; kernels that are built stay."""
        self.choices = choices
        self.plans = {}
        self.state = object()

    def source(self, file: str) -> str:
        """Return the text of a file in `source/`."""
        return (SOURCES / file).read_text()

    def known(self, plans: Plans, key: Hashable) -> Any:
        """Return the plan of a call; None for the first call of its kind, and under `missing`."""
        return plans.get(key) if _recorded.get() is None else None

    def keep(self, plans: Plans, key: Hashable, plan: PlanT) -> PlanT:
        """Keep and return a new plan; under `missing`, where it launches nothing, only return it."""
        if _recorded.get() is None:
            plans[key] = plan
        return plan

    def bind(self, launch: Launch) -> Bound | None:
        """Return what launches a kernel with inputs like those of `launch`; None where stock MLX is to compute it.

        A kernel that was not built yet is built; where it is refused, one warning says so.
        """
        if launch.variant in self._refused:
            return None
        if (recorded := _recorded.get()) is not None:
            recorded.setdefault(launch.variant, launch)
            zeros = mx.zeros(launch.shape, dtype=launch.dtype)
            return lambda inputs: [zeros]
        found = self._built(launch)
        return found and functools.partial(found[0], **self._arguments(launch, found[1]))

    def missing(self, run: Callable[[], object]) -> list[Launch]:
        """Return the launches of `run` whose kernels were not built yet, one of each kernel.

        Nothing is launched meanwhile: in this thread launches give zeros.
        """
        if not self._probe:
            return []
        found: dict[Any, Launch] = {}
        token = _recorded.set(found)
        try:
            run()
        finally:
            _recorded.reset(token)
        return [found[v] for v in found if v not in self._kernels and v not in self._refused]

    def compile(self, launches: Sequence[Launch], progress: Callable[[int, int], None] | None = None) -> None:
        """Build kernels before they are needed; `progress` is called with how many are done, and how many there are."""
        for done, launch in enumerate(launches):
            if progress is not None:
                progress(done, len(launches))
            self._built(launch)
        if progress is not None:
            progress(len(launches), len(launches))

    def _built(self, launch: Launch) -> tuple[Any, int] | None:
        """Return a launch's kernel and its simdgroups, built when first asked for; None where it is refused."""
        if launch.variant in self._refused:
            return None
        try:
            return self._kernels.get(launch.variant) or self._fitting(launch)
        except Refused as e:
            self._refused.add(launch.variant)
            warnings.warn(f"stock MLX computes what {launch.file} would: {e}", stacklevel=4)
            return None

    def _fitting(self, launch: Launch) -> tuple[Any, int]:
        """Build a launch's kernel, with as many simdgroups as its pipeline takes. Raises Refused if it takes none."""
        simdgroups, reason = launch.simdgroups, ""
        while True:
            kernel = self._make(launch, simdgroups)
            refusal = self._refusal(kernel, launch, simdgroups) if self._probe else ""
            if not refusal:
                break
            reason = refusal
            if simdgroups <= 1:
                raise Refused(f"it cannot run on this GPU ({reason}). Please report the chip and this line")
            simdgroups //= 2
        if reason:
            warnings.warn(
                f"{launch.file} runs with {simdgroups * SIMD} threads a threadgroup in place of "
                f"{launch.simdgroups * SIMD}: {reason}",
                stacklevel=2,
            )
        self._kernels[launch.variant] = kernel, simdgroups
        return kernel, simdgroups

    def _refusal(self, kernel: Any, launch: Launch, simdgroups: int) -> str:
        """Run a kernel once, on zeros in one threadgroup; return its pipeline's objection, or "".

        MLX compiles a kernel and compares its threads with the pipeline's limit when the launch is encoded. Raises
        Refused for a kernel that Metal does not compile, with its compiler's first error.
        """
        zeros = [mx.zeros(a.shape, dtype=a.dtype) for a in launch.inputs.values()]
        try:
            mx.eval(kernel(inputs=zeros, **self._arguments(launch, simdgroups, alone=True)))
        except (RuntimeError, ValueError) as e:
            if "allowed threads per threadgroup" in str(e):
                return str(e).rstrip(".")
            if NOT_COMPILED in str(e):
                lines = str(e).splitlines()
                first = next((line for line in lines if "error:" in line), lines[0])
                raise Refused(f"Metal does not compile it ({first.strip()}). Please report the chip and this") from e
            raise
        return ""

    def _arguments(self, launch: Launch, simdgroups: int, alone: bool = False) -> dict[str, Any]:
        """Return all arguments of a kernel's call except its inputs; with `alone`, for its first threadgroup only."""
        threads = simdgroups * SIMD or launch.threads
        x, y, z = (1, 1, 1) if alone else launch.grid
        if launch.along_x == "simdgroups":
            x = -(-x // simdgroups)
        return {
            "template": [],
            "grid": (x * threads, y, z),
            "threadgroup": (threads, 1, 1),
            "output_shapes": [launch.shape],
            "output_dtypes": [launch.dtype],
            **self._options,
        }

    def _make(self, launch: Launch, simdgroups: int, *, bound: bool = True) -> Any:
        """Build a kernel. MLX caches libraries by name, so the name holds all that the source depends on.

        Constants stand in the header, not in a template: what ends the header then stands before the function itself,
        and can tell the compiler how many threads a launch has. It fits the registers to that, where otherwise the
        pipeline could refuse the launch.
        """
        constants = launch.constants + ((("SIMDGROUPS", simdgroups),) if launch.simdgroups else ())
        parts = [launch.file.removesuffix(".metal")]
        parts += [f"{n}_{_DTYPE_NAMES[value] if isinstance(value, mx.Dtype) else value}" for n, value in constants]
        parts += [name.lower() for name, on in launch.defines.items() if on]
        parts += [_DTYPE_NAMES[a.dtype] for a in launch.inputs.values()]
        parts += [] if bound else ["unbound"]
        switches = "".join(f"#define {name} {int(on)}\n" for name, on in launch.defines.items())
        return self._build(
            name="_".join(parts),
            input_names=list(launch.inputs),
            output_names=[launch.output],
            source=_bare(self.source(launch.file)),
            header="".join(
                [
                    switches,
                    *(_bare(self.source(h)) for h in launch.headers),
                    *(_declared(*c) for c in constants),
                    f"[[max_total_threads_per_threadgroup({simdgroups * SIMD or launch.threads})]]\n" if bound else "",
                ]
            ),
            ensure_row_contiguous=launch.contiguous,
        )


def _bare(text: str) -> str:
    """Return a source without its comments, line for line: MLX copies and hashes the text at every launch."""
    return re.sub(r"[ \t]*//[^\n]*", "", text)


def _declared(name: str, value: mx.Dtype | int) -> str:
    if isinstance(value, mx.Dtype):
        return f"using {name} = {_METAL_TYPES[value]};\n"
    return f"constant constexpr {'bool' if isinstance(value, bool) else 'int'} {name} = {int(value)};\n"
