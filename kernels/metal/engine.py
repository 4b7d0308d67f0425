"""Where a kernel's source becomes something to call: by MLX on a GPU or by the interpreter. Nothing else chooses."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import mlx.core as mx

from .. import BackendUnavailable

SOURCES = pathlib.Path(__file__).parent
SIMD = 32

Constants = tuple[tuple[str, "mx.Dtype | int"], ...]

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
        """Everything that the compiled source depends on, but for the number of simdgroups that it ends up with."""
        dtypes = tuple(a.dtype for a in self.inputs.values())
        switches = tuple(self.defines.items())
        return self.file, self.constants, self.threads, self.simdgroups, switches, tuple(self.inputs), dtypes


class Engine:
    """Builds each kernel once and launches it.

    `build` is `mx.fast.metal_kernel` or `interpreter.metal_kernel`; `options` go along with every launch (the
    interpreter's check, seed and fp). With `probe`, each variant runs once, on zeros, when it is first used: a pipeline
    that takes fewer threads than the launch has is found there, where it can be answered with fewer simdgroups, and
    not in the middle of a lazy graph.
    """

    def __init__(
        self, build: Callable[..., Any], options: Mapping[str, Any] | None = None, *, probe: bool = False
    ) -> None:
        self._build = build
        self._options = dict(options or {})
        self._probe = probe
        self._kernels: dict[Any, tuple[Any, int]] = {}

    def source(self, file: str) -> str:
        """Return the text of a file in this folder."""
        return (SOURCES / file).read_text()

    def launch(self, launch: Launch) -> mx.array:
        """Run a launch and return its result.

        Raises BackendUnavailable if the GPU's pipeline takes no threadgroup size that the kernel can run with.
        """
        kernel, simdgroups = self._kernels.get(launch.variant) or self._fitting(launch)
        return self._call(kernel, launch, simdgroups, launch.inputs)

    def _fitting(self, launch: Launch) -> tuple[Any, int]:
        """Build a launch's kernel, with as many simdgroups as its pipeline takes."""
        simdgroups, reason = launch.simdgroups, ""
        while True:
            kernel = self._make(launch, simdgroups)
            refusal = self._refusal(kernel, launch, simdgroups) if self._probe else ""
            if not refusal:
                break
            reason = refusal
            if simdgroups <= 1:
                raise BackendUnavailable(
                    f"{launch.file} cannot run on this GPU: {reason}. Use `--backend native` or `--backend reference`, "
                    "and report the chip and this line"
                )
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
        """Run a kernel once, on zeros in one threadgroup; return what its pipeline objects to, or "".

        MLX compiles a kernel and compares its threads with the pipeline's limit when the launch is encoded.
        """
        zeros = {name: mx.zeros(a.shape, dtype=a.dtype) for name, a in launch.inputs.items()}
        try:
            mx.eval(self._call(kernel, launch, simdgroups, zeros, alone=True))
        except (RuntimeError, ValueError) as e:
            if "allowed threads per threadgroup" not in str(e):
                raise
            return str(e).rstrip(".")
        return ""

    def _call(
        self, kernel: Any, launch: Launch, simdgroups: int, inputs: Mapping[str, mx.array], alone: bool = False
    ) -> mx.array:
        """Call a kernel; only its first threadgroup where `alone`."""
        threads = simdgroups * SIMD or launch.threads
        x, y, z = (1, 1, 1) if alone else launch.grid
        if launch.along_x == "simdgroups":
            x = -(-x // simdgroups)
        result: list[mx.array] = kernel(
            inputs=list(inputs.values()),
            template=[],
            grid=(x * threads, y, z),
            threadgroup=(threads, 1, 1),
            output_shapes=[launch.shape],
            output_dtypes=[launch.dtype],
            **self._options,
        )
        return result[0]

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
            source=self.source(launch.file),
            header="".join(
                [
                    switches,
                    *(self.source(h) for h in launch.headers),
                    *(_declared(*c) for c in constants),
                    f"[[max_total_threads_per_threadgroup({simdgroups * SIMD or launch.threads})]]\n" if bound else "",
                ]
            ),
            ensure_row_contiguous=launch.contiguous,
        )


def _declared(name: str, value: mx.Dtype | int) -> str:
    if isinstance(value, mx.Dtype):
        return f"using {name} = {_METAL_TYPES[value]};\n"
    return f"constant constexpr {'bool' if isinstance(value, bool) else 'int'} {name} = {int(value)};\n"
