"""Faults planted in the packed products: their dot product, norm, gelu, and the tiled kernel."""

from __future__ import annotations

import dataclasses

import mlx.core as mx

from kernels import Ops, metal

from ..metal import test_norms
from ..metal.test_metal_checked import F16, MATMUL, matmul
from ..operations import test_int4_matmul, test_rounding
from .planted import BARRIER, Changes

DECODE = matmul(n=36)  # four outputs a simdgroup, and simdgroups without work
PREFILL = matmul(rows=(35,), norm=False, n=67)
ONE_ROW = matmul(rows=(1,), norm=False)  # two words a lane
DEEP = matmul(rows=(2,), groups=33, n=5, norm=False)
FIVE_ROWS = matmul(rows=(5,), group_size=64, groups=9, n=37)  # one word a lane
# Two tiles of rows and more, wide groups, words of 4 values, and a tile of y larger than those of x and w.
TALL = matmul(rows=(130,), bits=8, group_size=64, n=67, norm=False, dtype=F16)
EIGHT_BITS = matmul(rows=(2,), bits=8, group_size=128, groups=3, n=12, norm=False, dtype=F16)  # four outputs
SEVEN_ROWS = matmul(rows=(7,), n=9)  # in two tiles, the second with a row to spare
AXES = matmul(rows=(2, 1), n=8)


def folded(ops: Ops) -> None:
    """Five rows, whose second tile repeats the last one, of a norm in the epilogue."""
    assert isinstance(ops, metal.MetalOps)
    ops.engine.choose(metal.Choices(norm="folded"))
    test_int4_matmul.check(test_norms.Packing(ops), dataclasses.replace(MATMUL, rows=(5,), n=8).arguments())


def few_simdgroups(ops: Ops) -> None:
    """As `bench tune` may choose, or a pipeline enforce."""
    assert isinstance(ops, metal.MetalOps)
    ops.engine.choose(metal.Choices(norm_simdgroups=2))
    DECODE(ops)


def rounding(ops: Ops) -> None:
    test_rounding.test_products(ops, mx.bfloat16, 2)


def rounding_of_tiles(ops: Ops) -> None:
    test_rounding.test_products(ops, mx.bfloat16, 12)


def flat_rows(ops: Ops) -> None:
    test_int4_matmul.test_nearly_constant_rows(ops, 2)


def gelu_form(ops: Ops) -> None:
    test_int4_matmul.test_gelu_is_the_erf_form(ops)


CLAMPED = "metal::min(first + m, M - 1)"
NORMALIZED = f"""const int row = {CLAMPED};
      load_neighbors<V>(x + (row * K + k), out[m]);
#pragma unroll
      for (int i = 0; i < V; i++) {{
        out[m][i] = ("""

PLANTED: Changes = [
    ("int4_matmul.metal", DECODE, [
        ("residual lost", "value += float(residual[row * N + column]);", ";"),
        ("bias lost", "value += float(bias[column]);", ";"),
        ("gelu lost", "value = gelu(value);", ";"),
        ("no simd reduction", "metal::simd_sum(acc[r][m])", "acc[r][m]"),
        ("reads and stores past N", "if (n >= N) {", "if (n > N) {"),
        ("lanes beyond R * M store as well", "if (int(lane) < R * M) {", "{"),
        ("rows and outputs swapped", "int(lane) % M", "int(lane) / R"),
        ("divergent exit before a barrier", "#if NORM", "if (lane > 8) { return; }\n#if NORM"),
    ]),
    ("dequant_dot.h", DECODE, [
        ("wrong group stride", "float(scales[r * groups + k / GROUP])", "float(scales[r * groups + k / 64])"),
        ("wrong row stride", "float(biases[r * groups + k / GROUP])", "float(biases[r * (groups - 1) + k / GROUP])"),
        ("bias term lost", "scale[r] * dot[m] + bias[r] * sum[m]", "scale[r] * dot[m]"),
        ("nibbles reversed", ">> (i % PER_WORD * BITS)", ">> ((PER_WORD - 1 - i % PER_WORD) * BITS)"),
        ("a bit lost", "(1u << BITS) - 1u", "(1u << BITS) - 2u"),
    ]),
    ("dequant_dot.h", ONE_ROW, [
        ("second word forgotten", "w[r * words + k / PER_WORD + i]", "w[r * words + k / PER_WORD]"),
        ("words of one value", "bits[r][i / PER_WORD]", "bits[r][0]"),
    ]),
    ("dequant_dot.h", DEEP, [
        ("tail of K dropped", "k < K; k += 32 * VALUES", "k + 32 * VALUES <= K; k += 32 * VALUES"),
        ("runs past K", "k < K; k += 32 * VALUES", "k <= K; k += 32 * VALUES"),
    ]),
    ("norm_rows.h", DECODE, [
        ("mean over K - 1", "mean[m] = total[m] / float(K);", "mean[m] = total[m] / float(K - 1);"),
        ("norm's bias lost", "* rstd[row] * a[i] + b[i];", "* rstd[row] * a[i];"),
        ("norm's weight lost", "* rstd[row] * a[i] + b[i];", "* rstd[row] + b[i];"),
        ("mean not subtracted", "(out[m][i] - mean[row])", "out[m][i]"),
        ("missing barrier before the sums", BARRIER, ""),
        ("squares over sums that others still read", "(shared + M * SIMDGROUPS, simd", "(shared, simd"),
        ("squares not squared", "sum += SQUARED ? centered * centered : centered;", "sum += centered;"),
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
    ("int4_matmul.metal", FIVE_ROWS, [
        ("groups of 32 only", "scales + size_t(n) * (K / GROUP)", "scales + size_t(n) * (K / 32)"),
    ]),
    ("int4_matmul.metal", flat_rows, [("eps lost", "measure<SIMDGROUPS>(eps[0],", "measure<SIMDGROUPS>(0.0f,")]),
    ("dequant_dot.h", FIVE_ROWS, [
        ("always two words a lane", "r * words + k / PER_WORD", "r * words + k / (2 * PER_WORD) * 2"),
        ("steps of two words", "k += 32 * VALUES", "k += 32 * 16"),
        ("sums of the first tile of rows", "acc[r][first + m] +=", "acc[r][m] +="),
        ("activations of the first tile of rows", "x.load(first, k, xs);", "x.load(0, k, xs);"),
    ]),
    ("norm_rows.h", DEEP, [("first row for all", "metal::min(first + m, M - 1) * K + k)", "k)")]),
    ("norm_rows.h", flat_rows, [("eps lost", "total[m] / float(K) + eps", "total[m] / float(K)")]),
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
    ("dequant_dot.h", EIGHT_BITS, [
        ("rows of 8 values a word", "const int words = K / PER_WORD", "const int words = K / 8"),
    ]),
    ("norm_rows.h", SEVEN_ROWS, [("an eighth row normalized", NORMALIZED, NORMALIZED.replace(CLAMPED, "first + m"))]),
    ("int4_matmul.metal", AXES, [("K of the second axis", "x_shape[x_ndim - 1]", "x_shape[1]")]),
    ("int4_matmul.metal", rounding, [
        ("cut off, not rounded", "y[row * N + column] = T(value)",
         "y[row * N + column] = T(as_type<float>(as_type<uint>(value) & 0xFFFF0000u))"),
    ]),
    ("int4_matmul_tiled.metal", rounding_of_tiles, [
        ("cut off, not rounded", "y[size_t(row) * N + column] = T(value)",
         "y[size_t(row) * N + column] = T(as_type<float>(as_type<uint>(value) & 0xFFFF0000u))"),
    ]),
    ("norm_rows.h", few_simdgroups, [
        ("parts of 8 simdgroups", "parts[m * SIMDGROUPS + i]", "parts[m * 8 + i]"),
    ]),
    ("norm_rows.h", folded, [
        ("the repeated row counted twice", "if (first + m < M) {  // known", "{  // known"),
    ]),
]  # fmt: skip
