"""Faults planted in our own kernels, one at a time: each must be noticed by a check that the true source passes.

A mutant is a textual change of one `.metal` or `.h` file; the text must occur exactly once, so that a rewritten kernel
cannot turn a mutant into a no-op. "Noticed" means a wrong result or a fault of the interpreter's check mode; a mutant
that no longer compiles counts as an error of this file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from kernels import Ops, interpreter, metal

from . import test_int4_matmul, test_prefix_attention
from .test_metal_checked import ATTENTION, BF16, F16, F32, PROMPT, Case, attention, cross, matmul

assert F16 and F32 and BF16

DECODE = matmul()
PREFILL = matmul(rows=(35,), norm=False, n=67)
DEEP = matmul(rows=(2,), groups=33, n=5, norm=False)
PAIR = attention(ATTENTION)
WINDOW = attention(PROMPT)
SPLIT = attention(ATTENTION, dim=16, length=1500, slots=1501, frames=613, heads=1)
TEXT = cross()


def far_scores(ops: Ops) -> None:
    test_prefix_attention.test_scores_far_apart(ops, 1)


def gelu_form(ops: Ops) -> None:
    test_int4_matmul.test_gelu_is_the_erf_form(ops)


@dataclasses.dataclass(frozen=True)
class Mutant:
    what: str
    file: str
    old: str
    new: str
    killer: Case


BARRIER = "metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);"

MUTANTS = [
    Mutant("residual lost", "int4_matmul.metal", "value += float(residual[row * N + column]);", ";", DECODE),
    Mutant("bias lost", "int4_matmul.metal", "value += float(bias[column]);", ";", DECODE),
    Mutant("gelu lost", "int4_matmul.metal", "value = gelu(value);", ";", DECODE),
    Mutant("no simd reduction", "int4_matmul.metal", "metal::simd_sum(acc[r][m])", "acc[r][m]", DECODE),
    Mutant("reads past N", "int4_matmul.metal", "metal::min(R, N - n)", "R", DECODE),
    Mutant("stores past N", "int4_matmul.metal", "column < N", "column <= N", DECODE),
    Mutant("rows and outputs swapped", "int4_matmul.metal", "int(lane) % M", "int(lane) / R", DECODE),
    Mutant("divergent exit before the norm's barrier", "int4_matmul.metal", "#if NORM",
           "if (thread_index_in_threadgroup > 40) { return; }\n#if NORM", DECODE),
    Mutant("wrong group stride of scales", "packed_product.h", "float(scales[r * groups + k / GROUP])",
           "float(scales[r * groups + k / 64])", DECODE),
    Mutant("wrong row stride of biases", "packed_product.h", "float(biases[r * groups + k / GROUP])",
           "float(biases[r * (groups - 1) + k / GROUP])", DECODE),
    Mutant("bias term lost", "packed_product.h", "scale * dot + bias * sum[m]", "scale * dot", DECODE),
    Mutant("nibbles reversed", "packed_product.h", "(bits >> (j * BITS))", "(bits >> ((PER_WORD - 1 - j) * BITS))", DECODE),
    Mutant("a bit lost", "packed_product.h", "(1u << BITS) - 1u", "(1u << BITS) - 2u", DECODE),
    Mutant("second word forgotten", "packed_product.h", "const uint bits = word[i];", "const uint bits = word[0];", DECODE),
    Mutant("tail of K dropped", "packed_product.h", "k < K; k += 32 * VALUES", "k + 32 * VALUES <= K; k += 32 * VALUES",
           DEEP),
    Mutant("runs past K", "packed_product.h", "k < K; k += 32 * VALUES", "k <= K; k += 32 * VALUES", DEEP),
    Mutant("mean over K - 1", "rows.h", "mean[m] = total / float(K);", "mean[m] = total / float(K - 1);", DECODE),
    Mutant("norm's bias lost", "rows.h", "* rstd[m] * a + b;", "* rstd[m] * a;", DECODE),
    Mutant("norm's weight lost", "rows.h", "* rstd[m] * a + b;", "* rstd[m] + b;", DECODE),
    Mutant("mean not subtracted", "rows.h", "(float(x[m * K + k + i]) - mean[m])", "float(x[m * K + k + i])", DECODE),
    Mutant("missing barrier before the mean", "rows.h", f"{BARRIER}\n    for (int m = 0; m < M; m++) {{\n      float total = 0;\n"
           "      for (int i = 0; i < SIMDGROUPS; i++) {\n        total += shared",
           "for (int m = 0; m < M; m++) {\n      float total = 0;\n      for (int i = 0; i < SIMDGROUPS; i++) {\n"
           "        total += shared", DECODE),
    Mutant("missing barrier before the variance", "rows.h", f"{BARRIER}\n    for (int m = 0; m < M; m++) {{\n"
           "      float total = 0;\n      for (int i = 0; i < SIMDGROUPS; i++) {\n        total += squares",
           "for (int m = 0; m < M; m++) {\n      float total = 0;\n      for (int i = 0; i < SIMDGROUPS; i++) {\n"
           "        total += squares", DECODE),
    Mutant("tanh form of gelu", "gelu.h", "1.0f + erf_exact(x * 0.70710678f)",
           "1.0f + metal::tanh(0.7978845608f * (x + 0.044715f * x * x * x))", gelu_form),
    Mutant("coefficient of erf", "gelu.h", "-6.34846687e-1f", "-6.34646687e-1f", gelu_form),

    Mutant("missing barrier after the tiles", "int4_matmul_tiled.metal", f"{BARRIER}\n    for (int k = 0; k < BK", 
           "for (int k = 0; k < BK", PREFILL),
    Mutant("missing barrier before the next tiles", "int4_matmul_tiled.metal", f"{BARRIER}\n    for (int i = thread_index; i < BM * BK",
           "for (int i = thread_index; i < BM * BK", PREFILL),
    Mutant("missing barrier before the tile of y", "int4_matmul_tiled.metal", f"{BARRIER}\n  for (int i = 0; i < FM",
           "for (int i = 0; i < FM", PREFILL),
    Mutant("missing barrier before the epilogue", "int4_matmul_tiled.metal", f"{BARRIER}\n  for (int i = thread_index; i < BM * BN",
           "for (int i = thread_index; i < BM * BN", PREFILL),
    Mutant("reads past M", "int4_matmul_tiled.metal", "m0 + row < M ? from[j] : T(0)", "from[j]", PREFILL),
    Mutant("reads past N", "int4_matmul_tiled.metal", "if (n0 + row < N) {", "if (n0 + row <= N) {", PREFILL),
    Mutant("stores past N", "int4_matmul_tiled.metal", "row < M && column < N", "row < M && column <= N", PREFILL),
    Mutant("w not transposed", "int4_matmul_tiled.metal", "ulong2(0, 0), true", "ulong2(0, 0), false", PREFILL),
    Mutant("last 8 of each 32 dropped", "int4_matmul_tiled.metal", "k < BK; k += 8", "k < BK - 8; k += 8", PREFILL),
    Mutant("group of the tile's first column", "int4_matmul_tiled.metal", "(k0 + k) / GROUP", "k / GROUP", PREFILL),
    Mutant("group bias lost", "int4_matmul_tiled.metal", "& MASK) + bias_of_group", "& MASK)", PREFILL),
    Mutant("bias of another column", "int4_matmul_tiled.metal", "bias[column]", "bias[i % BN]", PREFILL),
    Mutant("residual lost", "int4_matmul_tiled.metal", "value += float(residual[size_t(row) * N + column]);", ";", PREFILL),

    Mutant("result not rescaled", "attend.h", "running[r].out[e] * factor + weight * v[e]",
           "running[r].out[e] + weight * v[e]", PAIR),
    Mutant("sum not rescaled", "attend.h", "running[r].sum * factor + weight", "running[r].sum + weight", PAIR),
    Mutant("one shuffle missing from the score", "attend.h", "offset < LANES; offset *= 2", "offset < LANES / 2; offset *= 2", PAIR),
    Mutant("causal mask lost", "attend.h", "s < last && s < visible[r]", "s < last", WINDOW),
    Mutant("reads unused slots", "attend.h", "if (s < last) {", "{", PAIR),
    Mutant("counts keys beyond the last", "attend.h", "s < last && s < visible[r]", "s <= last && s <= visible[r]", PAIR),
    Mutant("no running maximum", "attend.h", "const float top = metal::max(running[r].top, score);", "const float top = 0;",
           far_scores),
    Mutant("groups joined without rescaling", "attend.h", "sum *= factor;", ";", PAIR),
    Mutant("groups' results not joined", "attend.h", "out[e] += metal::simd_shuffle_xor(out[e], ushort(offset));", ";", PAIR),
    Mutant("last simdgroup not joined", "attend.h", "for (int i = 0; i < PARTS; i++) {", "for (int i = 0; i < PARTS - 1; i++) {",
           attention(ATTENTION, length=75)),
    Mutant("stride of the head dim ignored", "attend.h", "if (element == 1) {", "if (element >= 1) {",
           attention(ATTENTION, layout="strided")),

    Mutant("gate lost", "prefix_attention.metal", "g * c.x / c.z", "c.x / c.z", PAIR),
    Mutant("gate always open", "prefix_attention.metal", "const float g = float(gate[0]);", "const float g = 1.0f;", PAIR),
    Mutant("prefix lost", "prefix_attention.metal", "(g != 0.0f ? g * c.x / c.z : 0.0f)", "0.0f", PAIR),
    Mutant("one softmax for both", "prefix_attention.metal", "a.x / a.z + (g != 0.0f ? g * c.x / c.z : 0.0f)",
           "(a.x + g * c.x) / (a.z + c.z)", PAIR),
    Mutant("length ignored", "prefix_attention.metal", "metal::min(length[0], k_shape[2])", "k_shape[2]", PAIR),
    Mutant("one key short", "prefix_attention.metal", "S - steps + step[r] + 1", "S - steps + step[r]", PAIR),
    Mutant("sees the next key", "prefix_attention.metal", "S - steps + step[r] + 1", "S - steps + step[r] + 2", WINDOW),
    Mutant("prefix query lost", "prefix_attention.metal",
           "(value + float(prefix_q[prefix_at + d * prefix_q_strides[3]]))", "value", PAIR),
    Mutant("scale lost", "prefix_attention.metal", "query[r][e] = scale[0] * value;", "query[r][e] = value;", PAIR),
    Mutant("prefix of another row", "prefix_attention.metal", "const int shared = row[0] % shared_rows;",
           "const int shared = 0;", attention(ATTENTION, shared=2, pairs=1)),
    Mutant("rows of a pair swapped", "prefix_attention.metal", "y_position + (block * ROWS + r) * shared_rows",
           "y_position + (block * ROWS + ROWS - 1 - r) * shared_rows", PAIR),
    Mutant("missing barrier before the join", "prefix_attention.metal",
           f"{BARRIER}\n    for (int i = thread_index; i < ROUND * D", "for (int i = thread_index; i < ROUND * D", PAIR),
    Mutant("missing barrier between rounds", "prefix_attention.metal", f"if (r0 > 0) {{\n      {BARRIER}\n    }}", "",
           attention(ATTENTION, dim=128)),
    Mutant("a key lost between splits", "prefix_attention.metal", "const int last = S * (split + 1) / SPLITS;",
           "const int last = S * (split + 1) / SPLITS - 1;", SPLIT),
    Mutant("splits joined without rescaling", "prefix_attention_join.metal", "out = out * before", "out = out", SPLIT),
    Mutant("gate lost in the join", "prefix_attention_join.metal", "(which == 0 ? 1.0f : g)", "1.0f", SPLIT),

    Mutant("missing barrier after the projection", "cross_attention.metal", f"{BARRIER}\n\n  const int lane", "const int lane",
           TEXT),
    Mutant("missing barrier between rows", "cross_attention.metal", f"if (m > 0) {{\n      {BARRIER}\n    }}", "", TEXT),
    Mutant("head's rows of w", "cross_attention.metal", "const int n = h * D + d;", "const int n = d;", TEXT),
    Mutant("rows without text not written", "cross_attention.metal", "i < (B - M) * D", "i < 0", TEXT),
    Mutant("one key of the text lost", "cross_attention.metal", "everything[1] = {S}", "everything[1] = {S - 1}", TEXT),
    Mutant("scale lost", "cross_attention.metal", "scale[0] * total", "total", TEXT),
]  # fmt: skip


class Planted(metal.Engine):
    """The interpreter, in check mode, on sources with one mutant."""

    def __init__(self, mutant: Mutant):
        super().__init__(interpreter.metal_kernel, {"check": True, "seed": 1})
        self.mutant, self.used = mutant, False

    def source(self, file: str) -> str:
        text = super().source(file)
        if file != self.mutant.file:
            return text
        count = text.count(self.mutant.old)
        assert count == 1, f"{self.mutant.old!r} occurs {count} times in {file}; adapt the mutant to the new source"
        self.used = True
        return text.replace(self.mutant.old, self.mutant.new)


def test_every_kernel_has_mutants() -> None:
    kernels = {path.name for path in metal.engine.SOURCES.glob("*.metal")}
    assert kernels <= {m.file for m in MUTANTS}
    assert len({(m.what, m.file) for m in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("killer", sorted({m.killer for m in MUTANTS}, key=id), ids=lambda _: "")
def test_true_source_passes(killer: Callable[[Ops], Any]) -> None:
    killer(metal.on_interpreter(check=True, seed=1))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.file}: {m.what}")
def test_mutant_is_noticed(mutant: Mutant) -> None:
    engine = Planted(mutant)
    with pytest.raises((AssertionError, interpreter.KernelFault)) as noticed:
        mutant.killer(metal.MetalOps("interpreter", engine))
    assert engine.used, f"the killer does not use {mutant.file}"
    assert "adapt the mutant" not in str(noticed.value), str(noticed.value)
