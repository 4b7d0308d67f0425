"""Faults planted in our own kernels, one at a time: each must be noticed by a check that the true source passes.

A mutant is a textual change of one `.metal` or `.h` file; the text must occur exactly once, so that a rewritten kernel
cannot turn a mutant into a no-op. "Noticed" means a wrong result or a fault of the interpreter's check mode; a mutant
that no longer compiles counts as an error of this file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

from kernels import Ops, interpreter, metal

from . import test_int4_matmul, test_prefix_attention
from .test_metal_checked import ATTENTION, F16, PROMPT, Case, attention, cross, matmul

pytestmark = pytest.mark.backend("interpreter")

DECODE = matmul()
PREFILL = matmul(rows=(35,), norm=False, n=67)
DEEP = matmul(rows=(2,), groups=33, n=5, norm=False)
FIVE_ROWS = matmul(rows=(5,), group_size=64, groups=9, n=37)  # one word a lane
# Two tiles of rows and more, wide groups, words of 4 values, and a tile of y larger than those of x and w.
TALL = matmul(rows=(130,), bits=8, group_size=64, n=67, norm=False, dtype=F16)
PAIR = attention(ATTENTION)
CLOSED = attention(ATTENTION, gate=0.0)
WINDOW = attention(PROMPT)
LONG = dataclasses.replace(ATTENTION, dim=16, length=1503, slots=1504, frames=615)
SPLIT = attention(LONG)
SPLIT_CLOSED = attention(LONG, gate=0.0)
SPLIT_BLOCKS = attention(ATTENTION, dim=16, length=411, slots=411, frames=2000, pairs=6, heads=1)
STRIDED = attention(ATTENTION, layout="strided")
ODD = attention(ATTENTION, dim=100)  # whose last lane has spare elements
ODD_STRIDED = attention(ATTENTION, dim=100, layout="strided")
NARROW = attention(ATTENTION, dim=16)
TWO_SONGS = attention(ATTENTION, shared=2, pairs=1)
SONGS = attention(ATTENTION, shared=2, pairs=6, dim=16, length=9, slots=10, frames=7)  # two blocks each
THREE_ROWS = attention(ATTENTION, pairs=3)  # of which memory holds two at a time
WIDE = attention(ATTENTION, dim=128)  # whose parts need two rounds of memory
TEXT = cross()
ODD_TEXT = cross(dim=202, rows=5)


def far_scores(ops: Ops) -> None:
    test_prefix_attention.test_scores_far_apart(ops, 1)


def low_scores(ops: Ops) -> None:
    test_prefix_attention.test_scores_far_below_zero(ops, 1)


def low_scores_split(ops: Ops) -> None:
    test_prefix_attention.all_below(ops, LONG)


def length_beyond_slots(ops: Ops) -> None:
    """Not an error that a kernel can report; it must read no slot that is not there."""
    arguments = ATTENTION.arguments() | {"length": mx.array([ATTENTION.slots + 9], dtype=mx.int32)}
    ops.prefix_attention(**arguments)


def flat_rows(ops: Ops) -> None:
    test_int4_matmul.test_nearly_constant_rows(ops, 2)


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
    ("dequant_dot.h", DECODE, [
        ("wrong group stride", "float(scales[r * groups + k / GROUP])", "float(scales[r * groups + k / 64])"),
        ("wrong row stride", "float(biases[r * groups + k / GROUP])", "float(biases[r * (groups - 1) + k / GROUP])"),
        ("bias term lost", "scale * dot + bias * sum[m]", "scale * dot"),
        ("nibbles reversed", "(bits >> (j * BITS))", "(bits >> ((PER_WORD - 1 - j) * BITS))"),
        ("a bit lost", "(1u << BITS) - 1u", "(1u << BITS) - 2u"),
        ("second word forgotten", "const uint bits = word[i];", "const uint bits = word[0];"),
    ]),
    ("dequant_dot.h", DEEP, [
        ("tail of K dropped", "k < K; k += 32 * VALUES", "k + 32 * VALUES <= K; k += 32 * VALUES"),
        ("runs past K", "k < K; k += 32 * VALUES", "k <= K; k += 32 * VALUES"),
    ]),
    ("norm_rows.h", DECODE, [
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
    ("online_softmax.h", PAIR, [
        ("result not rescaled", "running[r].out[e] * factor + weight * v[e]", "running[r].out[e] + weight * v[e]"),
        ("sum not rescaled", "running[r].sum * factor + weight", "running[r].sum + weight"),
        ("a shuffle of the score missing", "offset < LANES; offset *= 2", "offset < LANES / 2; offset *= 2"),
        ("reads unused slots", "if (s < last) {", "{"),
        ("counts keys beyond the last", "s < last && s < visible[r]", "s <= last && s <= visible[r]"),
        ("groups joined without rescaling", "sum *= factor;", ";"),
        ("groups' results not joined", "out[e] += metal::simd_shuffle_xor(out[e], ushort(offset));", ";"),
        ("last simdgroup not joined", "for (int i = 0; i < PARTS; i++) {", "for (int i = 0; i < PARTS - 1; i++) {"),
    ]),
    ("online_softmax.h", WINDOW, [("causal mask lost", "s < last && s < visible[r]", "s < last")]),
    ("online_softmax.h", far_scores, [
        ("no running maximum", "const float top = metal::max(running[r].top, score);", "const float top = 0;"),
    ]),
    ("online_softmax.h", STRIDED, [("stride of the head dim ignored", "if (element == 1) {", "if (element >= 1) {")]),
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
    ("int4_matmul.metal", FIVE_ROWS, [
        ("groups of 32 only", "scales + size_t(n) * (K / GROUP)", "scales + size_t(n) * (K / 32)"),
    ]),
    ("int4_matmul.metal", flat_rows, [("eps lost", "eps[0]", "0.0f")]),
    ("dequant_dot.h", FIVE_ROWS, [
        ("always two words a lane", "r * words + k / PER_WORD", "r * words + k / (2 * PER_WORD) * 2"),
        ("steps of two words", "k += 32 * VALUES", "k += 32 * 16"),
    ]),
    ("norm_rows.h", DEEP, [
        ("first row for all", "out[m][i] = float(x[m * K + k + i]);", "out[m][i] = float(x[k + i]);"),
    ]),
    ("norm_rows.h", flat_rows, [("eps lost", "total / float(K) + eps", "total / float(K)")]),
    ("int4_matmul_tiled.metal", TALL, [
        ("row stride of groups of 32", "(K / GROUP) + ", "(K / 32) + "),
        ("groups of 32 only", "(k0 + k) / GROUP", "(k0 + k) / 32"),
        ("first tile of rows for all", "int(threadgroup_position_in_grid.y) * BM", "0"),
        ("tiles of rows overlap", "threadgroup_position_in_grid.y) * BM", "threadgroup_position_in_grid.y) * 32"),
        ("8 values a word", "(k0 + k) / PER_WORD", "(k0 + k) / 8"),
        ("row stride of 4 bits", "(K / PER_WORD)", "(K / 8)"),
        ("half a row of the tile", "i < BN * BITS", "i < BN * 4"),
        ("residual of another tile", "residual[size_t(row) * N", "residual[size_t(i / BN) * N"),
        ("lower simdgroups of a tile of 32", "/ 2) * (BM / 2)", "/ 2) * 16"),
        ("no room for the tile of y", "TILES > BM * BN ? TILES : BM * BN", "TILES"),
    ]),
    ("online_softmax.h", ODD, [
        ("elements beyond the head", "lane * E + e < D ? float(from[lane * E + e]) : 0.0f",
         "float(from[lane * E + e])"),
        ("elements rounded down", "(D + lanes_of(D) - 1) / lanes_of(D)", "D / lanes_of(D)"),
    ]),
    ("online_softmax.h", ODD_STRIDED, [
        ("strided elements beyond the head", "lane * E + e < D ? float(from[(lane * E + e) * element]) : 0.0f",
         "float(from[(lane * E + e) * element])"),
    ]),
    ("online_softmax.h", NARROW, [
        ("groups of 8 lanes", "thread_index / LANES;", "thread_index / 8;"),
        ("narrow groups not joined", "for (int offset = lanes_of(D); offset < 32; offset *= 2) {\n      sum",
         "for (int offset = 8; offset < 32; offset *= 2) {\n      sum"),
    ]),
    ("online_softmax.h", SPLIT, [("keys of the next split", "s < last && s < visible[r]", "s < visible[r]")]),
    ("online_softmax.h", low_scores, [("maximum starts at 0", "top = -3.0e38f;", "top = 0;")]),
    ("prefix_attention.metal", SONGS, [
        ("prefix query of another row", "row[r] % shared_rows *", "row[r] / (B / shared_rows) *"),
        ("prefix by neighbouring rows", "row[0] % shared_rows;", "row[0] / (B / shared_rows);"),
        ("neighbouring rows in a block", "(block * ROWS + r) * shared_rows", "block * ROWS + r"),
        ("first block for all", "(block * ROWS + r) * shared_rows", "r * shared_rows"),
        ("blocks of two", "(block * ROWS + r) * shared_rows", "(block * 2 + r) * shared_rows"),
        ("result in another row", "(DECODE ? index * shared_rows : 0)", "(DECODE ? index : 0)"),
    ]),
    ("prefix_attention.metal", THREE_ROWS, [("a row too many", "if (r < ROWS && (DECODE", "if ((DECODE")]),
    ("prefix_attention.metal", CLOSED, [
        ("0 / 0 with a closed gate", "(g != 0.0f ? g * c.x / c.z : 0.0f)", "g * c.x / c.z"),
    ]),
    ("prefix_attention.metal", STRIDED, [
        ("stride of the query ignored", "d * q_strides[3]", "d"),
        ("stride of the prefix query ignored", "d * prefix_q_strides[3]", "d"),
    ]),
    ("prefix_attention.metal", ODD, [("query beyond the head", "if (d < D) {", "{")]),
    ("prefix_attention.metal", length_beyond_slots, [
        ("length beyond the slots", "metal::min(length[0], k_shape[2])", "length[0]"),
    ]),
    ("prefix_attention.metal", SPLIT_BLOCKS, [
        ("blocks inside the splits", "position_in_grid.z) % blocks", "position_in_grid.z) / SPLITS"),
        ("splits inside the blocks", "position_in_grid.z) / blocks", "position_in_grid.z) % SPLITS"),
    ]),
    ("prefix_attention.metal", SPLIT, [
        ("cache rounded down", "S * (split + 1) / SPLITS;", "S / SPLITS * (split + 1);"),
        ("prefix rounded down", "P * (split + 1) / SPLITS,", "P / SPLITS * (split + 1),"),
        ("cache parts overlap", "S * split / SPLITS;", "S / SPLITS * split;"),
        ("prefix parts overlap", "P * split / SPLITS,", "P / SPLITS * split,"),
        ("parts of heads overlap", "size_t(split) * B + b) * H + h", "size_t(split) * B + b) + h"),
    ]),
    ("prefix_attention_join.metal", SPLIT, [
        ("parts of the first head", "(split * B + b) * H + h", "(split * B + b) * H"),
        ("result of the first head", "(size_t(b) * H + h) * D + d", "size_t(b) * H * D + d"),
    ]),
    ("prefix_attention_join.metal", SPLIT_CLOSED, [("0 / 0 with a closed gate", "which == 1 && g == 0.0f", "false")]),
    ("prefix_attention_join.metal", low_scores_split, [("maximum starts at 0", "top = -3.0e38f", "top = 0")]),
    ("cross_attention.metal", ODD_TEXT, [
        ("one row of zeros", "M + i / D", "M"),
        ("features past the head", "simd_lane == 0 && d + r < D", "simd_lane == 0"),
        ("weights past the head", "metal::min(R, D - d)", "R"),
        ("query past the head", "lane * E + e < D ? query[m * D + lane * E + e] : 0.0f", "query[m * D + lane * E + e]"),
        ("result past the head", "if (lane * E + e < D) {", "{"),
        ("16 simdgroups always", "d < D; d += SIMDGROUPS * R", "d < D; d += 16 * R"),
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
