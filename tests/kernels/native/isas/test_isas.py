"""Every instruction set: those this machine has through MLX, the others on an emulator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest

from ..conftest import Packed, relative_error
from . import emulators

pytestmark = [pytest.mark.backend("native"), pytest.mark.slow]

HERE = Path(__file__).parent
SIMD = HERE.parents[3] / "kernels" / "native" / "src" / "simd"


def test_the_isa_in_use_is_the_best_and_can_be_forced(native: ModuleType) -> None:
    isas = native.info()["isas"]
    assert isas[-1] == "portable" and native.info()["isa"] == isas[0]
    for isa in isas:
        native.set_isa(isa)
        assert native.info()["isa"] == isa
    with pytest.raises(ValueError, match=r"isa='sse9' cannot run here; use one of auto, .*portable"):
        native.set_isa("sse9")


def test_every_isa_here_computes_every_operation(native: ModuleType, rng: np.random.Generator) -> None:
    """Against the first set; that one is held to the oracle by tests/kernels."""
    packed = {bits: Packed(rng, 37, 192, 32, bits) for bits in (4, 8)}

    def draw(*shape: int) -> mx.array:
        return mx.array(rng.normal(size=shape).astype(np.float32))

    x, few, wide = draw(3, 192), draw(1, 3, 5, 20), draw(1, 3, 40, 64)
    signal, kernel, bias = draw(2, 50, 12), draw(7, 6, 12), draw(7)
    cell = [draw(32, 8), draw(32, 8), draw(32)]
    texts, heads = draw(2, 1, 192), Packed(rng, 60, 192)
    dense = draw(37, 192).astype(mx.bfloat16)

    def everything() -> list[mx.array]:
        return [
            *(native.int4_matmul(x, *p.args, group_size=32, bits=p.bits, activation="gelu") for p in packed.values()),
            native.int4_matmul(mx.concatenate([x] * 9), *packed[4].args, group_size=32),
            native.linear(x, dense),
            native.prefix_attention(few, few, few, few, few, few, 0.5, scale=0.3, length=5),
            native.attention(wide, wide, wide, scale=0.1, mask="causal"),
            native.cross_attention(texts, *heads.args, draw_k, draw_k, scale=0.2),
            native.conv1d(signal, kernel, bias, stride=2, elu=True),
            native.conv_transpose1d(signal, kernel, bias, stride=3, elu=True),
            *native.lstm(signal[..., :8], *cell),
        ]

    draw_k = draw(1, 3, 9, 20)
    isas = native.info()["isas"]
    native.set_isa(isas[0])
    expected = [np.array(a).astype(np.float64) for a in everything()]
    for isa in isas[1:]:
        native.set_isa(isa)
        for actual, want in zip(everything(), expected):
            assert relative_error(actual, want) < 3e-6, isa


def test_the_variable_forces_an_isa_and_a_wrong_one_is_explained() -> None:
    script = "import kernels; print(kernels.load('native').info()['isa'])"
    for isa, ok in (("portable", True), ("sse9", False)):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"INSTRUCT_MUSICGEN_ISA": isa},
            capture_output=True, text=True, cwd=HERE.parents[3],
        )  # fmt: skip
        if ok:
            assert done.stdout.strip() == isa, done.stderr
        else:
            assert "BackendUnavailable" in done.stderr and "INSTRUCT_MUSICGEN_ISA='sse9'" in done.stderr


@pytest.mark.parametrize("isa", emulators.EMULATED)
def test_isas_of_other_machines_are_right_on_an_emulator(isa: str, tmp_path: Path, native: ModuleType) -> None:
    compiler, flags, runner = emulators.EMULATED[isa]
    if why := emulators.missing(isa):
        pytest.skip(why)  # tests/conftest.py says so at the end of the run
    program = tmp_path / "check"
    subprocess.run(
        [compiler, "-std=c++20", "-O1", "-fno-strict-aliasing", "-fno-math-errno", "-fno-trapping-math", *flags,
         f"-DIMN_ISA_{isa.upper()}", f"-I{SIMD}", "isa_check.cpp", SIMD / "isa_table.cpp", "-o", program],
        check=True, cwd=HERE,
    )  # fmt: skip
    done = subprocess.run([*runner, program], capture_output=True, text=True)
    assert done.returncode == 0 and f"{isa}: " in done.stdout and ", 0 failed" in done.stdout, done.stdout[-2000:]
