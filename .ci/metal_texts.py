"""Write the whole text that MLX compiles of each of our kernels' variants: `python .ci/metal_texts.py FOLDER`.

One `.metal` file each, and `launches.txt` with a line `FILE THREADS` for each, for `.ci/metal_compile`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlx.core as mx

from kernels import metal
from kernels.beside_mlx.registers import VARIANTS
from kernels.beside_mlx.texts import whole
from kernels.interpreter.kernel import MetalKernel
from tests.kernels.metal.test_metal_checked import CASES


def main(folder: Path) -> None:
    """Write the texts. No kernel runs: results are zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    launches: dict[str, int] = {}

    def build(**options: Any) -> Any:
        kernel = MetalKernel(**options)

        def call(**a: Any) -> list[mx.array]:
            name = f"variant_{len(launches):03}.metal"
            (folder / name).write_text(whole(kernel, a))
            launches[name] = a["threadgroup"][0]
            return [mx.zeros(shape, dtype=dtype) for shape, dtype in zip(a["output_shapes"], a["output_dtypes"])]

        return call

    ops = metal.MetalOps("interpreter", metal.Engine(build))
    for call in VARIANTS.values():
        call(ops)
    for case in CASES.values():
        try:
            case(ops)
        except AssertionError:  # a case compares its result, and zeros are none
            continue
    (folder / "launches.txt").write_text("".join(f"{name} {threads}\n" for name, threads in launches.items()))
    print(f"{len(launches)} variants in {folder}")


main(Path(sys.argv[1]))
