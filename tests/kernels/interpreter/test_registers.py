"""`metal-check --registers`: what is read from compiled code, on kernels small enough to know the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from kernels.interpreter.cli import main
from kernels.interpreter.kernel import MetalKernel
from kernels.interpreter.registers import Loop, NotMeasured, Shape, measure, unavailable

pytestmark = [
    pytest.mark.backend("interpreter"),
    pytest.mark.skipif(bool(unavailable()), reason=f"compiled shapes: {unavailable()}"),
]

HALVES = mx.zeros((4, 64), dtype=mx.float16)


def shape(source: str, header: str = "", registers: bool = False, a: mx.array = HALVES) -> Shape:
    kernel = MetalKernel("k", ["a"], ["out"], source, header)
    return measure(kernel.signature([a], [mx.float32]), (64, 1, 1), (64, 1, 1), registers=registers)


def only_loop(source: str, header: str = "") -> Loop:
    (loop,) = shape(source, header).code.loops
    return loop


SUM = """
float total = 0;
for (int i = int(thread_position_in_grid.x); i < a_shape[1]; i += 64) {
  BODY
}
out[thread_position_in_grid.x] = total;
"""


def test_a_loop_is_one_block_without_a_guard_and_several_with_one() -> None:
    plain = only_loop(SUM.replace("BODY", "total += float(a[i]);"))
    assert plain.blocks == 1 and sum(plain.loads.values()) == 1
    guarded = only_loop(SUM.replace("BODY", "if (i != a_shape[0]) { total += float(a[i]) * float(a[i + 1]); }"))
    assert guarded.blocks > 1


def test_packed_vectors_are_one_load() -> None:
    wide = only_loop(SUM.replace("BODY", "total += float(half4(((const device packed_half4*)a)[i]).x);"))
    assert wide.loads in ({8: 1}, {2: 1})  # a compiler may see that one element is enough
    body = "const float4 x = float4(half4(((const device packed_half4*)a)[i])); total += x.x + x.y + x.z + x.w;"
    assert only_loop(SUM.replace("BODY", body)).loads == {8: 1}


def test_indices_of_64_bits_are_seen() -> None:
    assert only_loop(SUM.replace("BODY", "total += float(a[i * a_strides[0]]);")).wide_multiplies == 0
    body = "total += float(a[(long(i) * a_strides[0]) % 1000003]);"
    assert shape(SUM.replace("BODY", body)).code.wide_multiplies > 0


def test_arrays_indexed_by_what_is_not_known_are_on_the_stack() -> None:
    known = "float x[99];\n#pragma unroll\nfor (int i = 0; i < 99; i++) { x[i] = float(a[i]); }\nout[0] = x[3];"
    assert shape(known).code.stack == 0
    unknown = known.replace("x[3]", "x[int(a[9])]")
    assert shape(unknown).code.stack >= 99 * 4


def test_without_a_pragma_arrays_go_to_the_stack_where_little_is_unrolled() -> None:
    source = """
float x[24], y = 0;
UNROLL
for (int i = 0; i < 24; i++) { x[i] = float(a[i]) * float(a[i + 24]); }
UNROLL
for (int i = 0; i < 24; i++) { for (int j = 0; j < 24; j += 5) { y += x[i] * x[j] * float(a[i + j]); } }
out[0] = y;
"""
    assert shape(source.replace("UNROLL", "")).stack_if_little_is_unrolled > 0
    assert shape(source.replace("UNROLL", "#pragma unroll")).stack_if_little_is_unrolled == 0


def test_registers_grow_with_what_is_kept() -> None:
    source = """
float x[N];
#pragma unroll
for (int i = 0; i < N; i++) { x[i] = float(a[i * 3]); }
for (int k = 0; k < a_shape[1]; k++) {
#pragma unroll
  for (int i = 0; i < N; i++) { x[i] = x[i] * x[(i + 1) % N] + float(k); }
}
#pragma unroll
for (int i = 0; i < N; i++) { out[i] = x[i]; }
"""
    few, many = (shape(source.replace("N", n), registers=True).least_registers for n in ("8", "100"))
    assert few <= 32 and 100 <= many <= 160


def test_simd_operations_barriers_and_threadgroup_memory_compile() -> None:
    source = """
threadgroup float shared[2];
const float total = simd_sum(float(a[thread_position_in_grid.x]));
if (thread_index_in_simdgroup == 0) shared[simdgroup_index_in_threadgroup] = total;
threadgroup_barrier(mem_flags::mem_threadgroup);
out[thread_position_in_grid.x] = shared[0] + simd_shuffle_xor(shared[1], 3) + simd_prefix_inclusive_sum(total)
    + metal::precise::exp(total) + metal::tanh(total) + (simd_any(total > 1) ? 1 : 0);
"""
    assert shape(source).code.instructions > 20


def test_what_the_target_lacks_is_said() -> None:
    with pytest.raises(NotMeasured, match=r"SIMT target: .*simdgroup_matrix"):
        shape("simdgroup_matrix<float, 8, 8> m; out[0] = 0;")


def test_the_command_line(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "k.metal"
    launch = "// check: -i a=float16[4,64] -o out=float32[64] -g 64 -t 64\n"
    file.write_text(launch + SUM.replace("BODY", "total += a[i];"))
    assert main([str(file), "--registers"]) == 0
    out = capsys.readouterr().out
    assert "registers without spilling" in out and "loop 1" in out and "1 x 2" in out
    assert main([str(file), "--registers", "--json"]) == 0
    code = json.loads(capsys.readouterr().out)["launches"][0]["code"]
    assert code["code"]["loops"][0]["blocks"] == 1 and code["least_registers"] >= 8
    file.write_text("// check: -o out=float32[64] -g 64 -t 64\nsimdgroup_matrix<float, 8, 8> m; out[0] = 0;\n")
    assert main([str(file), "--registers"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
