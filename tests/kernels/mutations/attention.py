"""Faults planted in the attention kernels: both softmaxes and their join, the split of keys, attention to the text."""

from __future__ import annotations

import dataclasses

import mlx.core as mx
import numpy as np

from kernels import Ops, metal

from ..metal.test_metal_checked import ATTENTION, PROMPT, attention, cross
from ..operations import test_prefix_attention, test_rounding
from .planted import BARRIER, Changes

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
NEGATIVE = attention(ATTENTION, gate=-0.7)
RAGGED = attention(PROMPT, steps=6, gate=-0.7)  # a block of four queries, and one of two
NEGATIVE_SPLIT = attention(LONG, gate=-0.7)
TEXT = cross()
ODD_TEXT = cross(dim=202, rows=5)


def far_scores(ops: Ops) -> None:
    test_prefix_attention.test_scores_far_apart(ops, 1)


def other_layouts(ops: Ops) -> None:
    test_prefix_attention.test_keys_and_values_that_lie_differently(ops, "contiguous", "offset", 1)


def empty_parts(ops: Ops) -> None:
    """Fewer keys than parts, of which some have none."""
    assert isinstance(ops, metal.MetalOps)
    ops.engine.choose(metal.Choices(attention_splits=5))
    for length, frames in ((3, 2), (38, 41)):
        attention(ATTENTION, dim=16, length=length, slots=length + 2, frames=frames, gate=-0.7)(ops)


def tallest(ops: Ops) -> None:
    test_prefix_attention.tallest_anywhere(ops, 1)


def gate_digits(ops: Ops) -> None:
    test_prefix_attention.test_the_gate_keeps_its_digits(ops)


def rounding(ops: Ops) -> None:
    test_rounding.test_attention(ops, mx.bfloat16, 1)


def rounding_of_text(ops: Ops) -> None:
    test_rounding.test_attention_to_the_text(ops, mx.bfloat16)


def low_scores(ops: Ops) -> None:
    test_prefix_attention.test_scores_far_below_zero(ops, 1)


def low_scores_split(ops: Ops) -> None:
    test_prefix_attention.all_below(ops, LONG)


def length_beyond_slots(ops: Ops) -> None:
    """Not an error that a kernel can report; it must read no slot that is not there."""
    arguments = ATTENTION.arguments() | {"length": mx.array([ATTENTION.slots + 9], dtype=mx.int32)}
    ops.prefix_attention(**arguments)


def unseen_infinity(ops: Ops) -> None:
    """What stands at positions after a query's own does not reach it, however large it is."""
    arguments = PROMPT.arguments()
    before = np.array(ops.prefix_attention(**arguments))
    values = np.array(arguments["v"])
    values[:, :, PROMPT.length - 2] = np.inf  # the fourth query's own, in a block with those before it
    after = np.array(ops.prefix_attention(**arguments | {"v": mx.array(values)}))
    np.testing.assert_array_equal(before[:, :, :-2], after[:, :, :-2])


PLANTED: Changes = [
    ("online_softmax.h", PAIR, [
        ("result not rescaled", "running[r].out[e] *= factor;", ";"),
        ("sum not rescaled", "running[r].sum *= factor;", ";"),
        ("a shuffle of the score missing", "offset < LANES; offset *= 2", "offset < LANES / 2; offset *= 2"),
        ("reads unused slots", "if (!TAIL || s < last) {", "{"),
        ("counts keys beyond the last", "(!TAIL || place < last) &&", "(!TAIL || place <= last) &&"),
        ("full steps to the end", "base + AT_ONCE * groups <= last", "base < last"),
        ("one key of two", "base += AT_ONCE * groups)", "base += (AT_ONCE + 1) * groups)"),
        ("the same key twice", "const int s = base + group + i * groups;", "const int s = base + group;"),
        ("groups joined without rescaling", "    top = all;\n    sum *= factor;", "    top = all;"),
        ("groups' results not joined", "out[e] += metal::simd_shuffle_xor(out[e], ushort(offset));", ";"),
        ("last simdgroup not joined", "for (int i = 0; i < PARTS; i++) {", "for (int i = 0; i < PARTS - 1; i++) {"),
    ]),
    ("online_softmax.h", WINDOW, [
        ("causal mask lost", " && (!MASKED || place < visible[r])", ""),
    ]),
    ("online_softmax.h", unseen_infinity, [
        ("0 · infinity", "weight * (!MASKED || sees[i] ? value[i][e] : 0.0f)", "weight * value[i][e]"),
    ]),
    ("online_softmax.h", far_scores, [
        ("no running maximum", "top = metal::max(top, sees[i] ? score[i] : top);", "top = 0;"),
    ]),
    ("online_softmax.h", tallest, [
        ("maximum of all parts but the last", "int i = 1; i < PARTS; i++", "int i = 1; i < PARTS - 1; i++"),
    ]),
    ("online_softmax.h", STRIDED, [("stride of the head dim ignored", "NEIGHBORS ? 1 : element;", "1;")]),
    ("prefix_attention.metal", PAIR, [
        ("gate lost", "g * c.x / c.z", "c.x / c.z"),
        ("gate always open", "const float g = float(gate[0]);", "const float g = 1.0f;"),
        ("prefix lost", "(g != 0.0f ? g * c.x / c.z : 0.0f)", "0.0f"),
        ("one softmax for both", "a.x / a.z + (g != 0.0f ? g * c.x / c.z : 0.0f)", "(a.x + g * c.x) / (a.z + c.z)"),
        ("length ignored", "metal::min(length[0], k_shape[2])", "k_shape[2]"),
        ("one key short", "S - steps + step + 1", "S - steps + step"),
        ("prefix query lost", " + float(prefix_from[d * prefix_element])", ""),
        ("scale lost", "scale[0] * float(from[d * q_element])", "float(from[d * q_element])"),
        ("rows of a pair swapped", "y_position + (block * ROWS + piece) * shared_rows",
         "y_position + (block * ROWS + ROWS - 1 - piece) * shared_rows"),
        ("missing barrier before the join", BARRIER, ""),
        ("parts of one row", "(DECODE ? piece : r) * MAIN + member", "r * MAIN + member"),
        ("the prefix's parts over the cache's", "ROWS * MAIN + r * EXTRA + member", "r * EXTRA + member"),
        ("all of a team on the same keys", "group = member * GROUPS +", "group ="),
        ("half of a cache", "groups = MAIN * GROUPS;", "groups = 2 * MAIN * GROUPS;"),
        ("half of the prefix", "groups = EXTRA * GROUPS;", "groups = 2 * EXTRA * GROUPS;"),
        ("a simdgroup in another team", "metal::min(simd / MAIN, CACHES)", "metal::min((simd + 1) / MAIN, CACHES)"),
    ]),
    ("prefix_attention.metal", WINDOW, [
        ("sees the next key", "S - steps + step + 1", "S - steps + step + 2"),
    ]),
    ("prefix_attention.metal", TWO_SONGS, [
        ("prefix of another row", "const int shared = y_position % shared_rows;", "const int shared = 0;"),
    ]),
    ("prefix_attention.metal", WIDE, [
        ("features of another part", "outs + at * D", "outs + at"),
    ]),
    ("prefix_attention.metal", SPLIT, [
        ("a key lost between splits", "S * (split + 1) / SPLITS,", "S * (split + 1) / SPLITS - 1,"),
    ]),
    ("prefix_attention_join.metal", SPLIT, [
        ("not rescaled", "out = out * before", "out = out"),
        ("gate lost", "(which == 0 ? 1.0f : g)", "1.0f"),
    ]),
    ("cross_attention.metal", TEXT, [
        ("missing barrier after the projection", BARRIER + "\n  // TEAM", "// TEAM"),
        ("missing barrier before the join", BARRIER + "  for (int i = thread_index; i < M * D",
         "for (int i = thread_index; i < M * D"),
        ("all of a team on the same keys", "part % TEAM * GROUPS + ", ""),
        ("text of the first row", "const int m = part / TEAM;", "const int m = 0;"),
        ("first head's rows of w", "const int n = h * D + d;", "const int n = d;"),
        ("rows without text not written", "i < (B - M) * D", "i < 0"),
        ("one key of the text lost", "keys, values, 0, S,", "keys, values, 0, S - 1,"),
        ("scale lost", "scale[0] * total", "total"),
    ]),
    ("online_softmax.h", ODD, [
        ("elements beyond the head", "WHOLE ? lane * E + e : metal::min(lane * E + e, D - 1)", "lane * E + e"),
        ("elements rounded down", "(D + lanes_of(D) - 1) / lanes_of(D)", "D / lanes_of(D)"),
    ]),
    ("online_softmax.h", ODD_STRIDED, [
        ("strided elements beyond the head", "WHOLE ? lane * E + e : metal::min(lane * E + e, D - 1)",
         "lane * E + e"),
    ]),
    ("online_softmax.h", NARROW, [
        ("narrow groups not joined", "for (int offset = lanes_of(D); offset < 32; offset *= 2) {\n      sum",
         "for (int offset = 8; offset < 32; offset *= 2) {\n      sum"),
    ]),
    ("online_softmax.h", SPLIT, [
        ("keys of the next split", "(!TAIL || place < last) && (!MASKED", "(!MASKED"),
    ]),
    ("prefix_attention.metal", NARROW, [("groups of 8 lanes", "simd_lane / LANES;", "simd_lane / 8;")]),
    ("online_softmax.h", low_scores, [("maximum starts at 0", "top = -3.0e38f;", "top = 0;")]),
    ("prefix_attention.metal", SONGS, [
        ("prefix query of another row", "prefix_q + (shared *", "prefix_q + (row / (B / shared_rows) *"),
        ("prefix by neighboring rows", "y_position % shared_rows;", "y_position / (B / shared_rows);"),
        ("neighboring rows in a block", "(block * ROWS + piece) * shared_rows", "block * ROWS + piece"),
        ("first block for all", "(block * ROWS + piece) * shared_rows", "piece * shared_rows"),
        ("blocks of two", "(block * ROWS + piece) * shared_rows", "(block * 2 + piece) * shared_rows"),
        ("queries of neighboring rows", "(block * ROWS + r) * shared_rows", "block * ROWS + r"),
        ("queries of the first block", "(block * ROWS + r) * shared_rows", "r * shared_rows"),
        ("result in another row", "(DECODE ? index * shared_rows : 0)", "(DECODE ? index : 0)"),
    ]),
    ("prefix_attention.metal", THREE_ROWS, [("a row too many", "i < ROWS * D", "i < (ROWS + 1) * D")]),
    ("prefix_attention.metal", CLOSED, [
        ("0 / 0 with a closed gate", "(g != 0.0f ? g * c.x / c.z : 0.0f)", "g * c.x / c.z"),
    ]),
    ("prefix_attention.metal", STRIDED, [
        ("stride of the query ignored", "q_element = int(q_strides[3]);", "q_element = 1;"),
        ("stride of the prefix query ignored", "prefix_element = int(prefix_q_strides[3]);", "prefix_element = 1;"),
        ("strides of keys ignored", "keys.element == 1 && values.element == 1) {  // the", "true) {  // the"),
    ]),
    ("prefix_attention.metal", ODD, [
        ("query beyond the head", "d < D ? scale[0] * float(from[d * q_element]) : 0.0f",
         "scale[0] * float(from[d * q_element])"),
    ]),
    ("prefix_attention.metal", length_beyond_slots, [
        ("length beyond the slots", "metal::min(length[0], k_shape[2])", "length[0]"),
    ]),
    ("prefix_attention.metal", SPLIT_BLOCKS, [
        ("blocks inside the splits", "position_in_grid.z) % blocks", "position_in_grid.z) / SPLITS"),
        ("splits inside the blocks", "position_in_grid.z) / blocks", "position_in_grid.z) % SPLITS"),
    ]),
    ("prefix_attention.metal", SPLIT, [
        ("cache rounded down", "S * (split + 1) / SPLITS,", "S / SPLITS * (split + 1),"),
        ("prefix rounded down", "P * (split + 1) / SPLITS;", "P / SPLITS * (split + 1);"),
        ("cache parts overlap", "S * split / SPLITS;", "S / SPLITS * split;"),
        ("prefix parts overlap", "P * split / SPLITS;", "P / SPLITS * split;"),
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
        ("weights past the head", "d < D; d += SIMDGROUPS * R", "d <= D; d += SIMDGROUPS * R"),
        ("query past the head", "lane * E + e < D ? query[m * D + lane * E + e] : 0.0f", "query[m * D + lane * E + e]"),
        ("16 simdgroups always", "d += SIMDGROUPS * R", "d += 16 * R"),
    ]),
    ("prefix_attention.metal", NEGATIVE, [
        ("gate's size alone", "const float g = float(gate[0]);", "const float g = metal::abs(float(gate[0]));"),
    ]),
    ("prefix_attention_join.metal", NEGATIVE_SPLIT, [
        ("a negative gate adds nothing", "which == 1 && g == 0.0f", "which == 1 && g <= 0.0f"),
    ]),
    ("prefix_attention.metal", RAGGED, [
        ("keys of the first query alone", "sees[QUERIES - 1]);", "sees[0]);"),
    ]),
    ("prefix_attention.metal", other_layouts, [
        ("prefix values by the keys' rows", "int(prefix_v_strides[2])", "int(prefix_k_strides[2])"),
    ]),
    ("prefix_attention.metal", empty_parts, [
        ("parts of the prefix that share a frame", "P * split / SPLITS;", "metal::max(P * split / SPLITS - 1, 0);"),
    ]),
    ("prefix_attention_join.metal", empty_parts, [
        ("an empty part counted", "part[D + 1] * here", "(part[D + 1] + 1.0f) * here"),
    ]),
    ("prefix_attention.metal", gate_digits, [
        ("gate of 16 bits", "const float g = float(gate[0]);", "const float g = float(half(gate[0]));"),
    ]),
    ("prefix_attention.metal", rounding, [
        ("cut off, not rounded", "= T(value);", "= T(as_type<float>(as_type<uint>(value) & 0xFFFF0000u));"),
    ]),
    ("cross_attention.metal", rounding_of_text, [
        ("cut off, not rounded", "T(a.x / a.z)", "T(as_type<float>(as_type<uint>(a.x / a.z) & 0xFFFF0000u))"),
    ]),
    ("online_softmax.h", ODD_TEXT, [("result past the head", "if (lane * E + e < D) {", "{")]),
]  # fmt: skip
