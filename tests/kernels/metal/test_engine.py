"""How kernels reach MLX: each variant is built once, under a name of its own, and the source that MLX makes of it is
the one that the interpreter runs.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from kernels import interpreter, metal

from .test_metal_checked import ATTENTION, BF16, CASES, F16, MATMUL, PROMPT, attention, matmul

pytestmark = pytest.mark.backend("interpreter")


def test_variants_have_names_of_their_own() -> None:
    """MLX keeps a library under its kernel's name: two sources under one name would run the first of them."""
    sources: dict[str, str] = {}
    builds = 0

    def build(**options: Any) -> Any:
        nonlocal builds
        builds += 1
        assert re.fullmatch(r"[A-Za-z_]\w*", options["name"]), options["name"]
        text = options["header"] + options["source"] + str(options["input_names"])
        assert sources.setdefault(options["name"], text) == text
        return interpreter.metal_kernel(**options)

    ops = metal.MetalOps("interpreter", metal.Engine(build))
    variants = [
        *(dataclasses.replace(MATMUL, dtype=t) for t in (mx.float32, F16, BF16)),
        *(dataclasses.replace(MATMUL, scale_dtype=t) for t in (mx.float32, F16)),
        *(dataclasses.replace(MATMUL, **{part: False}) for part in ("bias", "gelu", "residual", "norm")),
        *(dataclasses.replace(MATMUL, rows=(m,)) for m in (1, 2, 9, 40)),
        dataclasses.replace(MATMUL, bits=8),
        dataclasses.replace(MATMUL, group_size=64),
    ]
    for variant in variants:
        matmul(**{f.name: getattr(variant, f.name) for f in dataclasses.fields(variant)})(ops)
    assert builds == len(set(variants)) == len(sources)
    for case in (ATTENTION, PROMPT, dataclasses.replace(ATTENTION, dim=48), dataclasses.replace(ATTENTION, dtype=F16)):
        attention(case)(ops)
    assert builds == len(set(variants)) + 4 == len(sources)
    # Other values, lengths and views of the same variants build nothing new.
    matmul(seed=9, n=99, groups=5, layout="strided")(ops)
    attention(ATTENTION, length=20, frames=3, gate=1.0, layout="transposed", array_length=True)(ops)
    assert builds == len(sources)


def test_comments_do_not_reach_mlx_and_lines_keep_their_numbers() -> None:
    """MLX copies and hashes the text at every launch; a fault's line is that of the file."""
    built: list[dict[str, Any]] = []

    def build(**options: Any) -> Any:
        built.append(options)
        return interpreter.metal_kernel(**options)

    engine = metal.Engine(build)
    for name in ("decode", "attention", "text", "prefill"):
        CASES[name](metal.MetalOps("interpreter", engine))
    files = {engine.source(path.name) for path in metal.engine.SOURCES.glob("*.metal")}
    for options in built:
        assert "//" not in options["source"] + options["header"]
        (file,) = (f for f in files if _code(f) == _code(options["source"]))
        assert file.count("\n") == options["source"].count("\n")
        assert len(options["source"]) < 0.85 * len(file)


def _code(text: str) -> list[str]:
    return [row.split("//")[0].rstrip() for row in text.splitlines()]


@pytest.mark.parametrize("name", CASES)
def test_mlx_makes_the_source_that_the_interpreter_runs(name: str, tmp_path: Path, capfd: Any) -> None:
    """Traced for a GPU, MLX prints what it would compile: our call is well-formed, and nothing differs."""
    compared = 0

    def build(**options: Any) -> Any:
        stock: Any = mx.fast.metal_kernel(**options)
        ours = interpreter.metal_kernel(**options)

        def call(**arguments: Any) -> list[mx.array]:
            nonlocal compared
            capfd.readouterr()
            inputs = arguments.pop("inputs")

            def trace(*arrays: mx.array) -> list[mx.array]:
                return stock(inputs=list(arrays), stream=mx.gpu, verbose=True, **arguments)

            mx.export_function(str(tmp_path / "trace.mlxfn"), trace, *inputs)
            printed = capfd.readouterr().out
            text = ours.signature(inputs, arguments["output_dtypes"], arguments["template"]).text
            assert text in printed
            compared += 1
            return ours(inputs=inputs, **arguments)

        return call

    CASES[name](metal.MetalOps("interpreter", metal.Engine(build)))
    assert compared
