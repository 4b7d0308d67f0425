"""Where a kernel's source becomes something to call: by MLX on a GPU or by the interpreter. Nothing else chooses."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

SOURCES = pathlib.Path(__file__).parent
SIMD = 32

Template = tuple[tuple[str, Any], ...]

_DTYPE_NAMES = {mx.float16: "f16", mx.bfloat16: "bf16", mx.float32: "f32", mx.int32: "i32", mx.uint32: "u32"}


class Engine:
    """Builds each kernel once and launches it.

    `build` is `mx.fast.metal_kernel` or `interpreter.metal_kernel`; `options` go along with every launch (the
    interpreter's check, seed and fp).
    """

    def __init__(self, build: Callable[..., Any], options: Mapping[str, Any] | None = None):
        self._build = build
        self._options = dict(options or {})
        self._kernels: dict[Any, Any] = {}

    def source(self, file: str) -> str:
        """The text of a file in this folder."""
        return (SOURCES / file).read_text()

    def launch(
        self,
        file: str,
        inputs: Mapping[str, mx.array],
        *,
        output: str,
        shape: Sequence[int],
        dtype: mx.Dtype,
        template: Template,
        grid: tuple[int, int, int],
        threads: int,
        headers: Sequence[str] = (),
        defines: Mapping[str, bool] | None = None,
        contiguous: bool = True,
    ) -> mx.array:
        """One launch of the kernel in `file`: `grid` counts threadgroups, each of `threads` threads.

        A library is cached by name: the name holds all that the source depends on (variant, dtypes, template).
        """
        key = (file, template, tuple((defines or {}).items()), tuple(inputs), tuple(a.dtype for a in inputs.values()))
        kernel = self._kernels.get(key)
        if kernel is None:
            kernel = self._kernels[key] = self._make(file, inputs, output, template, headers, defines or {}, contiguous)
        result: list[mx.array] = kernel(
            inputs=list(inputs.values()),
            template=list(template),
            grid=(grid[0] * threads, grid[1], grid[2]),
            threadgroup=(threads, 1, 1),
            output_shapes=[tuple(shape)],
            output_dtypes=[dtype],
            **self._options,
        )
        return result[0]

    def _make(
        self,
        file: str,
        inputs: Mapping[str, mx.array],
        output: str,
        template: Template,
        headers: Sequence[str],
        defines: Mapping[str, bool],
        contiguous: bool,
    ) -> Any:
        parts = [file.removesuffix(".metal")]
        parts += [f"{name}_{_DTYPE_NAMES.get(value, value)}" for name, value in template]
        parts += [name.lower() for name, on in defines.items() if on]
        parts += [_DTYPE_NAMES[a.dtype] for a in inputs.values()]
        switches = "".join(f"#define {name} {int(on)}\n" for name, on in defines.items())
        return self._build(
            name="_".join(parts),
            input_names=list(inputs),
            output_names=[output],
            source=self.source(file),
            header=switches + "".join(self.source(h) for h in headers),
            ensure_row_contiguous=contiguous,
        )
