"""What any compiler would keep of our decode kernels' code, looked at where clang compiles them for a SIMT target.

Each law has mutants that it must notice. Registers are only held against ceilings: they rank designs, no more.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from kernels.beside_mlx import registers
from kernels.beside_mlx.registers import VARIANTS
from kernels.interpreter.compiler import HERE
from kernels.interpreter.registers import Loop, Shape, unavailable
from kernels.interpreter.static_checks import lint

from .compiled import Change, compiled, signatures

pytestmark = [
    pytest.mark.backend("interpreter"),
    pytest.mark.slow,
    pytest.mark.skipif(bool(unavailable()), reason=f"compiled shapes: {unavailable()}"),
]

PRODUCTS = [name for name in VARIANTS if "product" in name]
TEXTS = [name for name in VARIANTS if name.startswith("text")]
PREFIXES = [name for name in VARIANTS if name.startswith("prefix")]
R = 4

# Vector registers without spilling, as clang 16 counts them for amdgcn, with room for other versions.
CEILINGS = {
    "product, 2 rows": 80,
    "norm and product, 2 rows": 112,
    "norm and product, 8 rows": 184,
    "prefix attention, a pair": 128,
    "text attention, 1 row": 120,
}


def products_loop(shape: Shape) -> Loop:
    """Return the loop over K: the longest that loads words and scales."""
    return max(shape.code.loops, key=lambda loop: loop.instructions * (4 in loop.loads or 8 in loop.loads))


def one_block(shape: Shape) -> bool:
    """In the loop over K nothing stands between the loads of its rows."""
    return products_loop(shape).blocks == 1


def wide_activations(shape: Shape) -> bool:
    """In the loop over K only scales and biases are loaded two bytes at a time."""
    return products_loop(shape).loads.get(2, 0) <= 2 * R


def no_stack(shape: Shape) -> bool:
    """Private arrays are registers, also where a compiler unrolls little of its own accord."""
    return shape.code.stack == 0 and shape.stack_if_little_is_unrolled == 0


def no_wide_multiplies(shape: Shape) -> bool:
    """Keys are found by indices of 32 bits."""
    return all(loop.wide_multiplies == 0 for loop in shape.code.loops if loop.loads)


@pytest.mark.parametrize("name", PRODUCTS + TEXTS)
def test_the_loop_over_k_is_one_block(name: str) -> None:
    assert one_block(compiled(name))
    assert wide_activations(compiled(name))
    if name in ("product, 1 rows", "product, 2 rows"):  # with more rows the order is the scheduler's own choice
        assert products_loop(compiled(name)).loads_before_first_wait >= R


@pytest.mark.parametrize("name", VARIANTS)
def test_no_array_is_on_the_stack(name: str) -> None:
    assert no_stack(compiled(name))


@pytest.mark.parametrize("name", PREFIXES + TEXTS)
def test_keys_and_values_are_wide_loads_at_32_bit_indices(name: str) -> None:
    shape = compiled(name)
    wide = [loop for loop in shape.code.loops if loop.loads == {16: 4}]
    assert len(wide) == (2 if name in PREFIXES else 1)
    assert all(loop.blocks == 1 and loop.loads_before_first_wait == 4 for loop in wide)
    assert no_wide_multiplies(shape)


@pytest.mark.parametrize("name", CEILINGS)
def test_registers_stay_under_their_ceiling(name: str) -> None:
    assert compiled(name, least=True).least_registers <= CEILINGS[name]


GUARD = (
    "      for (int i = 0; i < WORDS; i++) {\n        bits[r][i] = w[r * words + k / PER_WORD + i];",
    "      for (int i = 0; i < WORDS; i++) {\n        bits[r][i] = 0;\n"
    "        if (r * words < int(scales[0])) { bits[r][i] = w[r * words + k / PER_WORD + i]; }",
)


def test_a_guard_in_the_loop_is_noticed() -> None:
    assert not one_block(compiled("product, 2 rows", ("dequant_dot.h", *GUARD)))


def test_narrow_loads_are_noticed() -> None:
    packed = "return float4(half4(*(const device packed_half4*)p));"
    change = ("wide_loads.h", packed, "return float4(p[0], p[1], p[2], p[3]);")
    assert not wide_activations(compiled("product, 2 rows", change))
    shape = compiled("prefix attention, a pair", change)
    assert not any(loop.loads == {16: 4} for loop in shape.code.loops)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("dequant_dot.h", "norm and product, 8 rows"),
        ("norm_rows.h", "norm and product, 4 rows"),
        ("online_softmax.h", "prefix attention, a window"),
    ],
)
def test_missing_pragmas_are_noticed(file: str, name: str) -> None:
    assert not no_stack(compiled(name, (file, "#pragma unroll\n", "\n")))


def test_indices_of_64_bits_are_noticed() -> None:
    change = ("online_softmax.h", "int(uint(s) * uint(row))", "int64_t(s) * int64_t(row)")
    assert not no_wide_multiplies(compiled("prefix attention, a pair", change))


def test_a_stride_known_only_at_run_time_is_noticed() -> None:
    change = ("online_softmax.h", "NEIGHBORS && WHOLE && E % 4 == 0", "step == 1 && WHOLE && E % 4 == 0")
    shape = compiled("prefix attention, a pair", change)
    assert sum(loop.loads == {16: 4} for loop in shape.code.loops) < 2 or any(
        loop.blocks > 1 for loop in shape.code.loops if loop.loads
    )


def newer_than_cpp14(change: Change | None = None) -> list[str]:
    """Return what clang says of our text that C++14, which Metal was until macOS 26, did not have."""
    found = []
    clang = lint.clang()
    assert clang is not None
    for signature in signatures(change).values():
        command = [clang.path, "-std=c++20", "-Wno-everything", "-Wpre-c++17-compat", "-fsyntax-only"]
        command += ["-ferror-limit=0", "-I", str(HERE / "metal_stdlib"), "-x", "c++", "-"]
        said = subprocess.run(command, input=lint.unit(signature), capture_output=True, text=True, check=False).stderr
        found += [row for row in said.splitlines() if re.match(r"(header|source):.*before C\+\+17", row)]
    return found


def test_our_source_is_cpp14() -> None:
    assert newer_than_cpp14() == []
    assert newer_than_cpp14(("online_softmax.h", "if (NEIGHBORS && WHOLE", "if constexpr (NEIGHBORS && WHOLE"))


def test_mlxs_kernels_are_compiled_alike_for_the_table() -> None:
    rows = {name: shape for name, (_, shape) in registers.stock()}
    assert set(rows) >= {"MLX qmv_wide, 2 rows", "MLX sdpa_vector, head dim 64"}
    assert all(0 < shape.least_registers <= 256 and shape.code.loops for shape in rows.values())
    # MLX's kernel for two rows holds them both: it needs more than the one that takes a row at a time.
    assert rows["MLX qmv_wide, 4 rows"].least_registers > rows["MLX qmv_wide, 2 rows"].least_registers


def test_the_count_is_held_against_public_pipelines() -> None:
    found = {row.name: row for row in registers.calibrated()}
    assert len(found) == 6
    # 704 threads: more than 136 registers of 16 bits (768 threads), and no more than 144.
    assert found["llama.cpp kernel_mul_mv_q4_0_f32"].apple == (69, 72)
    assert found["mlx-vlm two_pass_2, head dim 256"].apple == (53, 56)
    assert found["llama.cpp kernel_rwkv_wkv6_f32"].apple == (117, 128)
    assert found["llama.cpp kernel_rwkv_wkv7_f32"].apple == (105, 116)
    sdpa = found["MLX sdpa_vector, head dim 512"]
    assert sdpa.apple == (57, 64) and 0.5 < sdpa.ratio[0] <= sdpa.ratio[1] < 2
    for row in found.values():
        assert row.ratio == (row.apple[0] / row.ours[1], row.apple[1] / row.ours[0])
    # A text that is not here is named, so that its count can be repeated.
    assert all(each.counted is None or each.source for each in registers.PUBLIC)
