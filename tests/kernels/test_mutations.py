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
from .test_metal_checked import ATTENTION, PROMPT, Case, attention, cross, matmul

pytestmark = pytest.mark.backend("interpreter")

DECODE = matmul()
PREFILL = matmul(rows=(35,), norm=False, n=67)
DEEP = matmul(rows=(2,), groups=33, n=5, norm=False)
PAIR = attention(ATTENTION)
WINDOW = attention(PROMPT)
SPLIT = attention(ATTENTION, dim=16, length=1500, slots=1501, frames=613, heads=1)
STRIDED = attention(ATTENTION, layout="strided")
TWO_SONGS = attention(ATTENTION, shared=2, pairs=1)
WIDE = attention(ATTENTION, dim=128)  # whose parts need two rounds of memory
TEXT = cross()


def far_scores(ops: Ops) -> None:
    test_prefix_attention.test_scores_far_apart(ops, 1)


def gelu_form(ops: Ops) -> None:
    test_int4_matmul.test_gelu_is_the_erf_form(ops)


@dataclasses.dataclass(frozen=True)
class Mutant:
    what: str
    old: str
    new: str
    file: str
    killer: Case


BARRIER = "metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);\n"
SUM_UP = """    for (int m = 0; m < M; m++) {
      float total = 0;
      for (int i = 0; i < SIMDGROUPS; i++) {
        total += """

# file, the check that must notice, and (what is wrong, text, its replacement)
PLANTED: list[tuple[str, Case, list[tuple[str, str, str]]]] = [
    ("int4_matmul.metal", DECODE, [
        ("residual lost", "value += float(residual[row * N + column]);", ";"),
        ("bias lost", "value += float(bias[column]);", ";"),
        ("gelu lost", "value = gelu(value);", ";"),
        ("no simd reduction", "metal::simd_sum(acc[r][m])", "acc[r][m]"),
        ("reads past N", "metal::min(R, N - n)", "R"),
        ("stores past N", "column < N", "column <= N"),
        ("rows and outputs swapped", "int(lane) % M", "int(lane) / R"),
        ("divergent exit before a barrier", "#if NORM", "if (lane > 8) { return; }\n#if NORM"),
    ]),
    ("packed_product.h", DECODE, [
        ("wrong group stride", "float(scales[r * groups + k / GROUP])", "float(scales[r * groups + k / 64])"),
        ("wrong row stride", "float(biases[r * groups + k / GROUP])", "float(biases[r * (groups - 1) + k / GROUP])"),
        ("bias term lost", "scale * dot + bias * sum[m]", "scale * dot"),
        ("nibbles reversed", "(bits >> (j * BITS))", "(bits >> ((PER_WORD - 1 - j) * BITS))"),
        ("a bit lost", "(1u << BITS) - 1u", "(1u << BITS) - 2u"),
        ("second word forgotten", "const uint bits = word[i];", "const uint bits = word[0];"),
    ]),
    ("packed_product.h", DEEP, [
        ("tail of K dropped", "k < K; k += 32 * VALUES", "k + 32 * VALUES <= K; k += 32 * VALUES"),
        ("runs past K", "k < K; k += 32 * VALUES", "k <= K; k += 32 * VALUES"),
    ]),
    ("rows.h", DECODE, [
        ("mean over K - 1", "mean[m] = total / float(K);", "mean[m] = total / float(K - 1);"),
        ("norm's bias lost", "* rstd[m] * a + b;", "* rstd[m] * a;"),
        ("norm's weight lost", "* rstd[m] * a + b;", "* rstd[m] + b;"),
        ("mean not subtracted", "(float(x[m * K + k + i]) - mean[m])", "float(x[m * K + k + i])"),
        ("missing barrier before the mean", BARRIER + SUM_UP + "shared", SUM_UP + "shared"),
        ("missing barrier before the variance", BARRIER + SUM_UP + "squares", SUM_UP + "squares"),
    ]),
    ("gelu.h", gelu_form, [
        ("tanh form", "erf_exact(x * 0.70710678f)", "metal::tanh(0.7978845608f * (x + 0.044715f * x * x * x))"),
        ("a coefficient of erf", "-6.34846687e-1f", "-6.34646687e-1f"),
    ]),
    ("int4_matmul_tiled.metal", PREFILL, [
        ("missing barrier after the tiles", BARRIER + "    for (int k = 0; k < BK", "for (int k = 0; k < BK"),
        ("missing barrier before the next tiles", BARRIER + "    for (int i = thread_index; i < BM * BK",
         "for (int i = thread_index; i < BM * BK"),
        ("missing barrier before the tile of y", BARRIER + "  for (int i = 0; i < FM", "for (int i = 0; i < FM"),
        ("missing barrier before the epilogue", BARRIER + "  for (int i = thread_index; i < BM * BN",
         "for (int i = thread_index; i < BM * BN"),
        ("reads past M", "m0 + row < M ? from[j] : T(0)", "from[j]"),
        ("reads past N", "if (n0 + row < N) {", "if (n0 + row <= N) {"),
        ("stores past N", "row < M && column < N", "row < M && column <= N"),
        ("w not transposed", "ulong2(0, 0), true", "ulong2(0, 0), false"),
        ("last 8 of each 32 dropped", "k < BK; k += 8", "k < BK - 8; k += 8"),
        ("group of the first tile", "(k0 + k) / GROUP", "k / GROUP"),
        ("group's bias lost", "& MASK) + bias_of_group", "& MASK)"),
        ("bias of another column", "bias[column]", "bias[i % BN]"),
        ("residual lost", "value += float(residual[size_t(row) * N + column]);", ";"),
    ]),
    ("attend.h", PAIR, [
        ("result not rescaled", "running[r].out[e] * factor + weight * v[e]", "running[r].out[e] + weight * v[e]"),
        ("sum not rescaled", "running[r].sum * factor + weight", "running[r].sum + weight"),
        ("a shuffle of the score missing", "offset < LANES; offset *= 2", "offset < LANES / 2; offset *= 2"),
        ("reads unused slots", "if (s < last) {", "{"),
        ("counts keys beyond the last", "s < last && s < visible[r]", "s <= last && s <= visible[r]"),
        ("groups joined without rescaling", "sum *= factor;", ";"),
        ("groups' results not joined", "out[e] += metal::simd_shuffle_xor(out[e], ushort(offset));", ";"),
        ("last simdgroup not joined", "for (int i = 0; i < PARTS; i++) {", "for (int i = 0; i < PARTS - 1; i++) {"),
    ]),
    ("attend.h", WINDOW, [("causal mask lost", "s < last && s < visible[r]", "s < last")]),
    ("attend.h", far_scores, [
        ("no running maximum", "const float top = metal::max(running[r].top, score);", "const float top = 0;"),
    ]),
    ("attend.h", STRIDED, [("stride of the head dim ignored", "if (element == 1) {", "if (element >= 1) {")]),
    ("prefix_attention.metal", PAIR, [
        ("gate lost", "g * c.x / c.z", "c.x / c.z"),
        ("gate always open", "const float g = float(gate[0]);", "const float g = 1.0f;"),
        ("prefix lost", "(g != 0.0f ? g * c.x / c.z : 0.0f)", "0.0f"),
        ("one softmax for both", "a.x / a.z + (g != 0.0f ? g * c.x / c.z : 0.0f)", "(a.x + g * c.x) / (a.z + c.z)"),
        ("length ignored", "metal::min(length[0], k_shape[2])", "k_shape[2]"),
        ("one key short", "S - steps + step[r] + 1", "S - steps + step[r]"),
        ("prefix query lost", "(value + float(prefix_q[prefix_at + d * prefix_q_strides[3]]))", "value"),
        ("scale lost", "query[r][e] = scale[0] * value;", "query[r][e] = value;"),
        ("rows of a pair swapped", "y_position + (block * ROWS + r) * shared_rows",
         "y_position + (block * ROWS + ROWS - 1 - r) * shared_rows"),
        ("missing barrier before the join", BARRIER + "    for (int i = thread_index; i < ROUND * D",
         "for (int i = thread_index; i < ROUND * D"),
    ]),
    ("prefix_attention.metal", WINDOW, [
        ("sees the next key", "S - steps + step[r] + 1", "S - steps + step[r] + 2"),
    ]),
    ("prefix_attention.metal", TWO_SONGS, [
        ("prefix of another row", "const int shared = row[0] % shared_rows;", "const int shared = 0;"),
    ]),
    ("prefix_attention.metal", WIDE, [
        ("missing barrier between rounds", "if (r0 > 0) {\n      " + BARRIER + "    }", ""),
    ]),
    ("prefix_attention.metal", SPLIT, [
        ("a key lost between splits", "last = S * (split + 1) / SPLITS;", "last = S * (split + 1) / SPLITS - 1;"),
    ]),
    ("prefix_attention_join.metal", SPLIT, [
        ("not rescaled", "out = out * before", "out = out"),
        ("gate lost", "(which == 0 ? 1.0f : g)", "1.0f"),
    ]),
    ("cross_attention.metal", TEXT, [
        ("missing barrier after the projection", BARRIER + "\n  const int lane", "const int lane"),
        ("missing barrier between rows", "if (m > 0) {\n      " + BARRIER + "    }", ""),
        ("first head's rows of w", "const int n = h * D + d;", "const int n = d;"),
        ("rows without text not written", "i < (B - M) * D", "i < 0"),
        ("one key of the text lost", "everything[1] = {S}", "everything[1] = {S - 1}"),
        ("scale lost", "scale[0] * total", "total"),
    ]),
]  # fmt: skip
MUTANTS = [Mutant(*change, file, killer) for file, killer, changes in PLANTED for change in changes]


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
